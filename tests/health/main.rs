//! The tools that wait for bindings come to the right conclusion in every state that this controller can produce: kstatus
//! (Flux, kpt, Helm), Flux by the expressions of `deploy/flux`, Argo CD by the script of `deploy/argocd`.
//!
//! The engines themselves judge (`tests/tools/health`). They judge what real runs produced: `corpus/` holds one binding for each
//! state that the end-to-end tests saw, and what they see in this checkout (`target/seen`) is judged as well.
//!
//! After a change of what is told: `make e2e`, then `UPDATE_CORPUS=1 cargo test --test health`.

#![allow(clippy::indexing_slicing, reason = "a panic is how a test fails, in the helpers of tests as well")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use instance_role_controller::decide::Reason;
use serde_json::{Value, json};
use world::{condition, judge, repository};

fn corpus() -> PathBuf {
    repository().join("tests/health/corpus")
}

/// What the end-to-end tests saw last in this checkout.
fn seen() -> PathBuf {
    repository().join("target/seen")
}

/// The bindings in a folder by the name of their state; none where there is no such folder.
fn bindings(folder: &Path) -> Result<BTreeMap<String, Value>> {
    let mut all = BTreeMap::new();
    if !folder.is_dir() {
        return Ok(all);
    }
    for entry in std::fs::read_dir(folder)? {
        let file = entry?.path();
        let name = file.file_stem().context("no name")?.to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&file)?;
        all.insert(name, serde_json::from_str(&text).with_context(|| file.display().to_string())?);
    }
    Ok(all)
}

/// What somebody who waits is to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Health {
    /// It is as declared.
    Done,
    /// It will be, without anybody's help.
    Coming,
    /// It will not be before a person helps.
    Failed,
    /// Nothing happens, because it was so asked.
    Held,
}

/// The law, by reason. A profile is awaited for two minutes, in case it was only just made; an instance for as long as there
/// can be one of that id.
fn expected(reason: Reason) -> &'static [Health] {
    use Health::{Coming, Done, Failed, Held};
    match reason {
        Reason::Associated | Reason::Disassociated => &[Done],
        Reason::Associating
        | Reason::Replacing
        | Reason::Disassociating
        | Reason::InstancePending
        | Reason::InstanceStopping
        | Reason::WaitingForRunning
        | Reason::ProfileNotPropagated
        | Reason::Throttled
        | Reason::BudgetExhausted
        | Reason::AWSUnavailable
        | Reason::OutsideWriter => &[Coming],
        Reason::ProfileNotFound | Reason::InstanceNotFound => &[Coming, Failed],
        Reason::ObserveOnly
        | Reason::InstanceTerminated
        | Reason::InstanceProtected
        | Reason::ProfileWithoutRole
        | Reason::ProfileRecreated
        | Reason::RoleAmbiguous
        | Reason::TrustPolicyBroken
        | Reason::NotAdopted
        | Reason::Conflict
        | Reason::NotAuthorized
        | Reason::AccessDenied
        | Reason::CredentialsUnavailable
        | Reason::RoleNotAssumable
        | Reason::RegionChanged
        | Reason::CircuitOpen => &[Failed],
        Reason::Suspended => &[Held],
    }
}

/// The words of kstatus (and of Flux, which has the same) and of Argo CD.
fn words(health: Health) -> (&'static str, &'static str) {
    match health {
        Health::Done => ("Current", "Healthy"),
        Health::Coming => ("InProgress", "Progressing"),
        Health::Failed => ("Failed", "Degraded"),
        Health::Held => ("InProgress", "Progressing"),
    }
}

fn reason(binding: &Value) -> Option<Reason> {
    let word = condition(binding, "Ready")?["reason"].as_str()?;
    Reason::ALL.into_iter().find(|reason| reason.as_str() == word)
}

/// Fails unless the engines say of the binding what the law says.
fn holds(state: &str, binding: &Value, answer: &Value) -> Result<()> {
    let said = ["kstatus", "flux", "argo"].map(|engine| answer[engine].as_str().unwrap_or_default());
    if binding["metadata"]["deletionTimestamp"].is_string() {
        // Flux and Argo CD look at that themselves, before they ask expressions or script.
        ensure!(said[0] == "Terminating", "{state}: {answer}");
        return Ok(());
    }
    if binding["status"]["observedGeneration"] != binding["metadata"]["generation"] {
        ensure!(said == ["InProgress", "InProgress", "Progressing"], "{state}: {answer}");
        return Ok(());
    }
    let reason = reason(binding).with_context(|| format!("{state}: Ready has no reason that is known"))?;
    let suspended = condition(binding, "Suspended").is_some();
    let right = expected(reason).iter().any(|health| {
        let (kstatus, argo) = words(*health);
        said == [kstatus, kstatus, if suspended { "Suspended" } else { argo }]
    });
    ensure!(right, "{state}: {reason:?} is {:?}, and the engines say {answer}", expected(reason));
    ensure!(answer["argoMessage"].as_str().is_some_and(|words| !words.is_empty()), "{state}: no message");
    Ok(())
}

/// Reasons that no end-to-end test brings about, and why.
const UNSEEN: [(Reason, &str); 1] = [(
    Reason::ProfileRecreated,
    "Replace answers with the same association only where nothing changed, which neither sandbox nor moto does for a \
     profile made again; the unit tests of decide have it",
)];

#[test]
fn in_every_state_the_engines_conclude_what_is_so() -> Result<()> {
    let mut all = bindings(&corpus())?;
    all.extend(bindings(&seen())?.into_iter().map(|(state, binding)| (format!("seen/{state}"), binding)));
    assert!(all.len() >= 40, "{} states", all.len());
    let answers = judge(&all.values().collect::<Vec<_>>())?;
    let wrong: Vec<String> = all
        .iter()
        .zip(&answers)
        .filter_map(|((state, binding), answer)| holds(state, binding, answer).err())
        .map(|error| error.to_string())
        .collect();
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

#[test]
fn every_reason_is_among_what_is_judged() -> Result<()> {
    if std::env::var_os("UPDATE_CORPUS").is_some() {
        keep_what_was_seen()?;
    }
    let judged: BTreeSet<Reason> = bindings(&corpus())?.values().filter_map(reason).collect();
    let missing: Vec<Reason> = Reason::ALL.into_iter().filter(|reason| !judged.contains(reason)).collect();
    assert_eq!(
        missing,
        UNSEEN.map(|(reason, _)| reason),
        "reasons that no object in tests/health/corpus has"
    );
    Ok(())
}

/// Takes over what the last runs saw; a state that they did not happen to see stays.
fn keep_what_was_seen() -> Result<()> {
    std::fs::create_dir_all(corpus())?;
    for (state, binding) in bindings(&seen())? {
        let text = serde_json::to_string_pretty(&binding)? + "\n";
        std::fs::write(corpus().join(format!("{state}.json")), text)?;
    }
    Ok(())
}

/// The engines do look: each of these changes turns their answer.
#[test]
fn another_object_gets_another_answer() -> Result<()> {
    let converged = json!({
        "apiVersion": "instancerole.dev/v1alpha1", "kind": "InstanceRoleBinding",
        "metadata": {"name": "web", "namespace": "a", "generation": 2},
        "status": {"observedGeneration": 2, "conditions": [
            {"type": "Synced", "status": "True", "reason": "Associated", "message": "m"},
            {"type": "Ready", "status": "True", "reason": "Associated", "message": "m"},
        ]},
    });
    let with = |kind: &str| {
        let mut object = converged.clone();
        let more = json!({"type": kind, "status": "True", "reason": "Conflict", "message": "why"});
        if let Some(conditions) = object["status"]["conditions"].as_array_mut() {
            conditions.insert(0, more);
            conditions[2]["status"] = json!("False");
        }
        object
    };
    let mut edited = converged.clone();
    edited["metadata"]["generation"] = json!(3);
    let mut fresh = converged.clone();
    fresh["status"] = json!({"observedGeneration": -1});
    let objects = [&converged, &with("Stalled"), &with("Reconciling"), &with("Suspended"), &edited, &fresh];
    let said: Vec<[String; 3]> = judge(&objects)?
        .iter()
        .map(|answer| {
            ["kstatus", "flux", "argo"].map(|engine| answer[engine].as_str().unwrap_or_default().to_owned())
        })
        .collect();
    assert_eq!(
        said,
        [
            ["Current", "Current", "Healthy"],
            ["Failed", "Failed", "Degraded"],
            ["InProgress", "InProgress", "Progressing"],
            ["InProgress", "InProgress", "Suspended"],
            ["InProgress", "InProgress", "Progressing"],
            ["InProgress", "InProgress", "Progressing"],
        ]
    );
    Ok(())
}

#[test]
fn the_config_map_of_argo_cd_holds_the_script() -> Result<()> {
    let text = std::fs::read_to_string(repository().join("deploy/argocd/argocd-cm.yaml"))?;
    let patch: Value = serde_yaml::from_str(&text)?;
    let script = std::fs::read_to_string(repository().join("deploy/argocd/health.lua"))?;
    assert_eq!(
        patch["data"],
        json!({"resource.customizations.health.instancerole.dev_InstanceRoleBinding": script})
    );
    Ok(())
}

/// The voice: what is, why, and, where a person is needed, what to do.
#[test]
fn messages_are_in_one_voice() -> Result<()> {
    for (state, binding) in bindings(&corpus())?.into_iter().chain(bindings(&seen())?) {
        for condition in binding["status"]["conditions"].as_array().into_iter().flatten() {
            let message = condition["message"].as_str().unwrap_or_default();
            let plain = !message.is_empty() && !message.contains('\n') && !message.ends_with('.');
            ensure!(plain && message.len() <= 400, "{state}: {message}");
            let cure = message.contains(": ") || message.contains("; ");
            ensure!(condition["type"] != "Stalled" || cure, "{state} does not say what to do: {message}");
        }
    }
    Ok(())
}
