//! All stories. Which module tells which item of the mesh's checklist: `tests/README.md`.

mod harness;
