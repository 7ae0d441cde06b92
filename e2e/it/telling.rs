//! How stories are told: `story` gives each a namespace and a deadline, `place` is that namespace, `app` is what runs in it, `inside`
//! is a Pod's network, `load` comes from there, `mesh` is what we ship, `shop` is a server and a client in it,
//! `second` is another node, `inventory` is all that a cluster holds.

pub mod app;
pub mod inside;
pub mod inventory;
pub mod load;
pub mod mesh;
pub mod place;
pub mod second;
pub mod shop;
pub mod story;
