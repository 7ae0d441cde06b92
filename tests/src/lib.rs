//! What the stories in `it/` are told with: processes, networks, certificates, origins, clients, and the two scripted halves of
//! the contract (a control plane for our proxy, a proxy for our operator). Nothing in here knows what is right; stories do.

pub mod binaries;
pub mod bookinfo;
pub mod browser;
pub mod cable;
pub mod capture;
pub mod client;
pub mod clock;
pub mod control_plane;
pub mod demo;
pub mod grpc;
pub mod hosts;
pub mod kernel;
pub mod load;
pub mod mesh;
pub mod netns;
pub mod origin;
pub mod pair;
pub mod peer;
pub mod pki;
pub mod pod;
pub mod process;
pub mod relay;
pub mod scripted_proxy;
pub mod stock;
pub mod story;
pub mod wait;
pub mod world;
