//! Who takes part: instances by what may happen to them, and the bindings that name them.

use anyhow::Result;
use fastrand::Rng;
use serde_json::{Value, json};

use crate::scenario::Scenario;
use crate::together::World;

/// What bindings declare.
pub(super) const DECLARED: [&str; 3] = ["app", "batch", "web"];
/// What outsiders attach: no binding ever declares it, so it can be told from what a binding left behind.
pub(super) const FOREIGN: &str = "foreign";
/// From the fourth change by an outsider on a binding waits before it repairs; here nobody shall have to.
pub(super) const DRIFTS: usize = 3;

/// What may happen to an instance, and so what has to hold for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lot {
    /// Runs always and is bound always, now to this profile, now to that.
    Steady,
    /// The same, but by two bindings, of which one or the other may go and come back.
    Shared,
    /// Anything.
    Wild,
    /// Bound in a namespace whose grant comes and goes.
    Fickle,
    /// Bound where no grant ever was.
    Stranger,
    /// Bound by an observer.
    Watched,
    /// Not bound.
    Untouched,
}

impl Lot {
    /// Whether the controller may write to it at all.
    pub(super) fn may_be_written(self) -> bool {
        matches!(self, Self::Steady | Self::Shared | Self::Wild | Self::Fickle)
    }

    /// Whether a workload on it has credentials at every moment.
    pub(super) fn has_no_gap(self) -> bool {
        matches!(self, Self::Steady | Self::Shared)
    }
}

/// An instance and the names of its bindings, there or not.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) id: String,
    pub(super) lot: Lot,
    pub(super) bindings: Vec<String>,
    pub(super) drifts: usize,
    pub(super) terminated: bool,
    /// Whether a binding was deleted that was not to detach, or could not.
    pub(super) may_be_left: bool,
}

/// Everybody.
pub(super) struct Cast<'w> {
    pub(super) granted: Scenario<'w>,
    pub(super) fickle: Scenario<'w>,
    pub(super) stranger: Scenario<'w>,
    pub(super) members: Vec<Member>,
    pub(super) is_granted: bool,
}

impl<'w> Cast<'w> {
    pub(super) fn gather(world: &'w World, rng: &mut Rng) -> Result<Self> {
        let sandbox = world.sandbox();
        for profile in DECLARED.iter().chain(&[FOREIGN, "found"]) {
            sandbox.profile(profile)?;
        }
        let mut cast = Self {
            granted: world.scenario("granted")?,
            fickle: world.stranger("fickle")?,
            stranger: world.stranger("stranger")?,
            members: Vec::new(),
            is_granted: false,
        };
        cast.grant()?;
        let lots = [
            (Lot::Steady, 6),
            (Lot::Shared, 4),
            (Lot::Wild, 12),
            (Lot::Fickle, 4),
            (Lot::Stranger, 2),
            (Lot::Watched, 2),
            (Lot::Untouched, 3),
        ];
        for (lot, count) in lots {
            for _ in 0..count {
                cast.join(lot, rng)?;
            }
        }
        Ok(cast)
    }

    fn join(&mut self, lot: Lot, rng: &mut Rng) -> Result<()> {
        let nth = self.members.len();
        let state = if lot == Lot::Wild && rng.bool() { "stopped" } else { "running" };
        let before = match lot {
            // A gap begins where credentials end: there are some from the start.
            Lot::Steady | Lot::Shared | Lot::Untouched => Some("found"),
            _ if rng.bool() => Some("found"),
            _ => None,
        };
        let id = self.granted.sandbox().instance(state, before)?;
        let count = match lot {
            Lot::Untouched => 0,
            Lot::Shared => 2,
            Lot::Wild => rng.usize(1..=2),
            _ => 1,
        };
        let bindings: Vec<String> = (0..count).map(|n| format!("b{nth}-{n}")).collect();
        self.members.push(Member { id, lot, bindings, drifts: 0, terminated: false, may_be_left: false });
        for n in 0..count {
            self.bind(nth, n, rng)?;
        }
        Ok(())
    }

    /// The namespace of a member.
    pub(super) fn namespace(&self, lot: Lot) -> &Scenario<'w> {
        match lot {
            Lot::Fickle => &self.fickle,
            Lot::Stranger => &self.stranger,
            _ => &self.granted,
        }
    }

    /// The bindings of a member as they are now, null where there is none.
    pub(super) fn found(&self, member: &Member) -> Result<Vec<Value>> {
        let scenario = self.namespace(member.lot);
        let api = scenario.world().control_plane().api();
        member.bindings.iter().map(|name| Ok(api.find(&scenario.path(name))?.unwrap_or_default())).collect()
    }

    /// Makes a binding of a member, or declares it anew; nothing while it is on its way out.
    pub(super) fn bind(&self, nth: usize, which: usize, rng: &mut Rng) -> Result<String> {
        let Some(member) = self.members.get(nth) else { return Ok(String::new()) };
        let Some(name) = member.bindings.get(which) else { return Ok(String::new()) };
        let spec = spec(member, rng);
        if self.found(member)?.get(which).is_some_and(is_leaving) {
            return Ok(String::new());
        }
        let scenario = self.namespace(member.lot);
        // Whole, as a new commit would have it; and nobody else owns a field of it.
        match scenario.apply(name, &spec) {
            Ok(_) => Ok(format!("declare {name} of {}: {spec}", member.id)),
            // It went in between.
            Err(error) => Ok(format!("refused {name} of {}: {error:#}", member.id)),
        }
    }

    /// The fickle namespace is granted.
    pub(super) fn grant(&mut self) -> Result<()> {
        let profiles = ["arn:aws:iam::123456789012:instance-profile/*"];
        self.fickle.grant(
            "fickle",
            &json!({"instanceProfiles": profiles, "instances": {"regions": [crate::REGION]}}),
        )?;
        self.is_granted = true;
        Ok(())
    }
}

/// Whether an object is in deletion.
pub(super) fn is_leaving(object: &Value) -> bool {
    !object["metadata"]["deletionTimestamp"].is_null()
}

/// What a person could declare for a member.
fn spec(member: &Member, rng: &mut Rng) -> Value {
    let tame = member.lot.has_no_gap();
    let profile = rng.choice(DECLARED).unwrap_or("app");
    let choice = match rng.u8(0..10) {
        0 if !tame => json!({"none": {}}),
        1 | 2 => json!({"roleName": profile}),
        3 | 4 => json!({"arn": format!("arn:aws:iam::123456789012:instance-profile/{profile}")}),
        _ => json!({"name": profile}),
    };
    let mut spec = json!({"instanceId": member.id, "instanceProfile": choice});
    if member.lot == Lot::Watched {
        spec["mode"] = json!("Observe");
    }
    if !tame {
        if rng.u8(0..10) == 0 {
            spec["suspend"] = json!(true);
        }
        if rng.u8(0..10) == 0 {
            spec["whenStopped"] = json!("WaitForRunning");
        }
        spec["deletionPolicy"] = json!(rng.choice(["Detach", "Detach", "Restore", "Retain"]));
    }
    spec
}
