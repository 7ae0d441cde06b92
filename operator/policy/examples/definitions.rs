//! Writes the definitions of our kinds as the chart holds them: `… > charts/mesh/templates/crds.yaml`.

use kube::CustomResourceExt;
use mesh_policy::authorization::AuthorizationPolicy;

fn main() -> Result<(), serde_saphyr::ser::Error> {
    let definition = serde_saphyr::to_string(&AuthorizationPolicy::crd())?;
    print!(
        "# Written by `cargo run -p mesh-policy --example definitions` from operator/policy/src/authorization.rs.\n{definition}"
    );
    Ok(())
}
