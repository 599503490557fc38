//! Status belongs to the controller, but for what others add under names of their own.

use anyhow::Result;
use serde_json::{Value, json};

use crate::stage::{Story, condition, scenario};

#[test]
fn a_condition_of_our_types_is_taken_back_and_a_foreign_one_stays() -> Result<()> {
    let s = scenario("conditions")?;
    s.sandbox().profile("conditions-app")?;
    let i = s.sandbox().instance("running", None)?;
    s.bind("web", &i, &json!({"name": "conditions-app"}))?;
    s.wait_until_ready("web")?;
    let told = |kind: &str| {
        json!({"type": kind, "status": "True", "reason": "Meddling", "message": "not ours",
            "lastTransitionTime": "2026-01-01T00:00:00Z"})
    };
    let status = json!({
        "apiVersion": "instancerole.dev/v1alpha1", "kind": "InstanceRoleBinding",
        "metadata": {"name": "web", "namespace": s.namespace()},
        "status": {"conditions": [told("Stalled"), told("Contended"), told("example.com/Audited")]},
    });
    let args = ["apply", "--server-side", "--subresource=status", "--field-manager=meddler", "-f", "-"];
    s.world().control_plane().admin().run_with(&args, Some(&status.to_string()))?;
    let binding = s.patiently("web", "is rid of what another wrote", |found| {
        condition(found, "Stalled").is_null() && condition(found, "Contended").is_null()
    })?;
    assert_eq!(condition(&binding, "example.com/Audited")["reason"], "Meddling", "not our business");
    assert_eq!(condition(&binding, "Ready")["status"], "True");
    let version = binding["metadata"]["resourceVersion"].clone();
    s.passes(3)?;
    assert_eq!(s.binding("web")?["metadata"]["resourceVersion"], version, "said once and for all");
    assert_ne!(version, Value::Null);
    Ok(())
}
