//! What is as declared costs no write anywhere, and no read of its own.

use anyhow::Result;
use serde_json::json;

use crate::stage::{Story, names_listed, world};

#[test]
fn several_passes_over_what_is_as_declared() -> Result<()> {
    let world = world(&["--resync-interval=500ms"])?;
    let s = world.scenario("converged")?;
    s.sandbox().profile("app")?;
    let (found, attached, bare) = (
        s.sandbox().instance("running", Some("app"))?,
        s.sandbox().instance("running", None)?,
        s.sandbox().instance("stopped", None)?,
    );
    s.bind("found", &found, &json!({"name": "app"}))?;
    s.bind("attached", &attached, &json!({"name": "app"}))?;
    s.bind("bare", &bare, &json!({"none": {}}))?;
    s.apply(
        "observed",
        &json!({"instanceId": found, "instanceProfile": {"roleName": "app"}, "mode": "Observe"}),
    )?;
    let names = ["found", "attached", "bare", "observed"];
    for name in names {
        s.wait_until_ready(name)?;
    }
    // A look that was under way when they became ready may still end.
    s.passes(2)?;
    let versions = |()| -> Result<Vec<String>> {
        names.iter().map(|name| Ok(s.binding(name)?["metadata"]["resourceVersion"].to_string())).collect()
    };
    let (before, since) = (versions(())?, s.sandbox().last_call()?);
    let writes = || -> Result<usize> {
        let calls = world.control_plane().calls_of_service_accounts()?;
        let here = |call: &&world::ApiCall| {
            call.is_write() && call.object.as_ref().is_some_and(|object| object.namespace == s.namespace())
        };
        Ok(calls.iter().filter(here).count())
    };
    let written = writes()?;
    s.passes(6)?;
    assert_eq!(versions(())?, before, "no status was written");
    assert_eq!(writes()?, written, "nothing at all was asked of the API server");
    let mut others = s.sandbox().calls_since(since)?;
    others.retain(|call| names_listed(call) != 3);
    assert_eq!(others, [], "only the listing that serves all three instances");
    Ok(())
}
