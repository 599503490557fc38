//! Faults on demand: which calls they hit, and what happens to those.

use serde::{Deserialize, Serialize};

use crate::policy::wildcard_matches;

/// What happens to a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Effect {
    /// It is refused.
    #[serde(rename_all = "camelCase")]
    Error {
        /// The error code.
        code: String,
        /// The HTTP status.
        #[serde(default = "bad_request")]
        status: u16,
        /// The message.
        #[serde(default)]
        message: String,
    },
    /// It is refused as throttled.
    Throttle,
    /// It waits, and is then carried out and answered.
    Hang {
        /// For how long.
        ms: u64,
    },
    /// The connection closes and nothing has happened.
    Drop,
    /// It is carried out and the connection closes without a reply.
    LostReply,
    /// The client gets no reply; the call is carried out later.
    Late {
        /// How much later.
        ms: u64,
        /// What the client sees meanwhile.
        #[serde(default)]
        client: Client,
    },
    /// A listing gives a page of at most so many rows, with a token for the rest.
    PartialPage {
        /// How many.
        rows: usize,
    },
    /// A read shows the world as it was.
    StaleRead {
        /// How long ago.
        ms: u64,
    },
}

/// What the client of a late call sees.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Client {
    /// The connection stays open and silent.
    #[default]
    Hang,
    /// The connection closes.
    Drop,
}

fn bad_request() -> u16 {
    400
}

/// Which calls a fault hits; what is absent fits every call.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Fault {
    /// Given by the sandbox.
    #[serde(default)]
    pub id: u64,
    /// The action; `*` and `?` allowed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
    /// The caller's account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// The Region.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// The instance written to, or among those asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// The association written to, or among those asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub association: Option<String>,
    /// The caller's ARN, its role's or user's ARN, or access key; `*` and `?` allowed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub caller: Option<String>,
    /// Calls that fit and pass before the first is hit.
    #[serde(default)]
    pub skip: u64,
    /// Calls that are hit; without it, all.
    #[serde(default = "once")]
    pub count: Option<u64>,
    /// How likely each of those is to be hit, up to 1; always, if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chance: Option<f64>,
    /// What chance falls out by: the same number, the same series.
    #[serde(default)]
    pub luck: u64,
    /// Calls hit so far.
    #[serde(default)]
    pub hits: u64,
    /// What happens.
    pub effect: Option<Effect>,
}

fn once() -> Option<u64> {
    Some(1)
}

/// What a fault looks at in a call.
#[derive(Debug, Default)]
pub struct Aim<'a> {
    /// The action.
    pub action: &'a str,
    /// The caller's account.
    pub account: &'a str,
    /// The Region.
    pub region: &'a str,
    /// Every name of the caller.
    pub callers: Vec<&'a str>,
    /// Every id in the parameters, and the instance a write turns out to be about.
    pub ids: Vec<&'a str>,
}

/// The faults that wait for their call.
#[derive(Debug, Default)]
pub struct Faults {
    waiting: Vec<Fault>,
    last: u64,
}

impl Faults {
    /// Adds a fault and gives it its id.
    ///
    /// # Errors
    /// A fault without effect.
    pub fn add(&mut self, mut fault: Fault) -> Result<u64, String> {
        if fault.effect.is_none() {
            return Err("a fault has an effect".to_owned());
        }
        self.last += 1;
        fault.id = self.last;
        fault.hits = 0;
        self.waiting.push(fault);
        Ok(self.last)
    }

    /// Removes one fault, or all.
    pub fn remove(&mut self, id: Option<u64>) {
        self.waiting.retain(|fault| id.is_some_and(|id| id != fault.id));
    }

    /// All faults, used up or not.
    pub fn list(&self) -> &[Fault] {
        &self.waiting
    }

    /// What happens to a call: the effect of the first fault that fits, is past its skips and not used up.
    /// Every fault that fits counts the call.
    pub fn strike(&mut self, aim: &Aim<'_>) -> Option<(u64, Effect)> {
        let mut struck = None;
        for fault in self.waiting.iter_mut().filter(|fault| fault.fits(aim)) {
            if fault.skip > 0 {
                fault.skip -= 1;
            } else if struck.is_none() && fault.count.is_none_or(|count| fault.hits < count) && fault.falls()
            {
                fault.hits += 1;
                struck = fault.effect.clone().map(|effect| (fault.id, effect));
            }
        }
        struck
    }
}

impl Fault {
    /// Whether chance falls on this call.
    fn falls(&mut self) -> bool {
        let Some(chance) = self.chance else { return true };
        // SplitMix64: a step of a known series, and a number of 53 bits from it.
        self.luck = self.luck.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.luck;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let drawn = u32::try_from((mixed ^ (mixed >> 31)) >> 32).unwrap_or_default();
        f64::from(drawn) / f64::from(u32::MAX) < chance
    }

    fn fits(&self, aim: &Aim<'_>) -> bool {
        let id = |wanted: &Option<String>| wanted.as_ref().is_none_or(|id| aim.ids.contains(&id.as_str()));
        let is = |wanted: &Option<String>, is: &str| wanted.as_ref().is_none_or(|wanted| wanted == is);
        self.action.as_ref().is_none_or(|pattern| wildcard_matches(pattern, aim.action))
            && is(&self.account, aim.account)
            && is(&self.region, aim.region)
            && id(&self.instance)
            && id(&self.association)
            && self
                .caller
                .as_ref()
                .is_none_or(|pattern| aim.callers.iter().any(|name| wildcard_matches(pattern, name)))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn faults(fault: serde_json::Value) -> Faults {
        let mut faults = Faults::default();
        faults.add(serde_json::from_value(fault).unwrap()).unwrap();
        faults
    }

    #[test]
    fn a_fault_hits_after_its_skips_and_only_so_often() {
        let mut faults = faults(json!({"action": "Associate*", "skip": 2, "count": 2, "effect": "throttle"}));
        let aim = Aim { action: "AssociateIamInstanceProfile", ..Aim::default() };
        let hits: Vec<bool> = (0..6).map(|_| faults.strike(&aim).is_some()).collect();
        assert_eq!(hits, [false, false, true, true, false, false]);
    }

    #[test]
    fn a_fault_hits_only_the_instance_it_names() {
        let mut faults = faults(json!({"instance": "i-1", "effect": {"late": {"ms": 5, "client": "drop"}}}));
        assert_eq!(faults.strike(&Aim { ids: vec!["i-2"], ..Aim::default() }), None);
        let effect = Effect::Late { ms: 5, client: Client::Drop };
        assert_eq!(faults.strike(&Aim { ids: vec!["i-2", "i-1"], ..Aim::default() }), Some((1, effect)));
    }

    #[test]
    fn chance_falls_on_some_calls_and_on_the_same_ones_again() {
        let rain = || {
            let mut faults = faults(json!({"count": null, "chance": 0.25, "luck": 7, "effect": "throttle"}));
            (0..400).map(|_| faults.strike(&Aim::default()).is_some()).collect::<Vec<bool>>()
        };
        let hits = rain().iter().filter(|hit| **hit).count();
        assert!((60..140).contains(&hits), "{hits}");
        assert_eq!(rain(), rain());
    }

    #[test]
    fn a_fault_counts_once_unless_told_otherwise() {
        let mut forever = faults(json!({"count": null, "effect": "drop"}));
        let mut once = faults(json!({"effect": "drop"}));
        assert_eq!((0..3).filter(|_| forever.strike(&Aim::default()).is_some()).count(), 3);
        assert_eq!((0..3).filter(|_| once.strike(&Aim::default()).is_some()).count(), 1);
    }
}
