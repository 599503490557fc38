//! What can be set: how long states take, how old reads are, how much may be asked per second.
//!
//! The names are the same in the `--set` flag, in `PATCH /_sandbox/settings` and here.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A token bucket: `capacity` requests at once, `refill` per second after that.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bucket {
    /// Requests that can be made at once from a full bucket.
    pub capacity: f64,
    /// Tokens per second.
    pub refill: f64,
}

/// Everything that can be set. Durations are milliseconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// From `associating` to `associated` on a running instance.
    pub associating_ms: u64,
    /// From `disassociating` to gone on a running instance.
    pub disassociating_ms: u64,
    /// From `pending` to `running`.
    pub pending_ms: u64,
    /// From `stopping` to `stopped`.
    pub stopping_ms: u64,
    /// From `shutting-down` to `terminated`.
    pub shutting_down_ms: u64,
    /// How long a terminated instance is still listed.
    pub tombstone_ms: u64,
    /// How long EC2 does not know a profile that IAM has just created.
    pub propagation_ms: u64,
    /// From a write to its effect on the credentials that the guest sees.
    pub guest_ms: u64,
    /// How long `DescribeInstances` shows the old profile after a Replace.
    pub replace_shows_old_ms: u64,
    /// How far in the past every EC2 read looks.
    pub read_lag_ms: u64,
    /// At most this much is added at random to the lag of each read.
    pub read_lag_jitter_ms: u64,
    /// How much further in the past `DescribeInstances` looks.
    pub instances_lag_ms: u64,
    /// Whether Replace of a row still `associating` is accepted on a running instance (not established by any
    /// capture). When `false` it is refused as "not the active association".
    pub replace_while_associating: bool,
    /// Whether the rows within a page come in a different order on each read.
    pub shuffle_rows: bool,
    /// The largest page, and the page of a listing that names no `MaxResults`.
    pub page_size: usize,
    /// Whether the token buckets are enforced.
    pub throttling: bool,
    /// Token bucket by action; `*ec2`, `*iam` and `*sts` hold what is not named, each action its own bucket.
    /// `DescribeInstances:unfiltered` is the one for a listing with neither filter, ids nor paging.
    pub buckets: BTreeMap<String, Bucket>,
    /// Life of assumed-role credentials whatever `DurationSeconds` says; 0 takes the caller's wish.
    pub session_ms: u64,
    /// Calls kept in the journal; the oldest go first.
    pub journal_limit: usize,
    /// Seed of ids, jitter and row order.
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            associating_ms: 300,
            disassociating_ms: 300,
            pending_ms: 200,
            stopping_ms: 200,
            shutting_down_ms: 200,
            tombstone_ms: 3_600_000,
            propagation_ms: 0,
            guest_ms: 100,
            replace_shows_old_ms: 200,
            read_lag_ms: 0,
            read_lag_jitter_ms: 0,
            instances_lag_ms: 100,
            replace_while_associating: true,
            shuffle_rows: true,
            page_size: 1000,
            throttling: true,
            buckets: published_buckets(),
            session_ms: 0,
            journal_limit: 100_000,
            seed: 1,
        }
    }
}

/// The buckets of aws-semantics section 2 (DOC, EC2 API throttling); IAM's and STS's are unpublished, so modest.
fn published_buckets() -> BTreeMap<String, Bucket> {
    [
        ("DescribeIamInstanceProfileAssociations", 100.0, 20.0),
        ("DescribeInstances", 100.0, 20.0),
        ("DescribeInstances:unfiltered", 50.0, 10.0),
        ("AssociateIamInstanceProfile", 100.0, 5.0),
        ("DisassociateIamInstanceProfile", 100.0, 5.0),
        ("ReplaceIamInstanceProfileAssociation", 50.0, 5.0),
        ("*ec2", 50.0, 5.0),
        ("*iam", 50.0, 10.0),
        ("*sts", 100.0, 50.0),
    ]
    .into_iter()
    .map(|(action, capacity, refill)| (action.to_owned(), Bucket { capacity, refill }))
    .collect()
}

impl Settings {
    /// Durations as captured or documented, instead of quick ones (aws-semantics 1.3, 3.1). Where only an
    /// upper bound is known (`associating`: 67 s and 91 s), a value below it.
    pub fn realistic() -> Self {
        Self {
            associating_ms: 60_000,
            disassociating_ms: 10_000,
            pending_ms: 15_000,
            stopping_ms: 30_000,
            shutting_down_ms: 30_000,
            propagation_ms: 10_000,
            guest_ms: 4_000,
            replace_shows_old_ms: 1_500,
            read_lag_jitter_ms: 500,
            instances_lag_ms: 1_000,
            ..Self::default()
        }
    }

    /// These settings with the members of `patch` in place of their own.
    ///
    /// # Errors
    /// Names the member that is unknown or of the wrong type; nothing is changed then.
    pub fn patched(&self, patch: &Value) -> Result<Self, String> {
        let mut merged = serde_json::to_value(self).map_err(|error| error.to_string())?;
        let (Some(members), Some(patch)) = (merged.as_object_mut(), patch.as_object()) else {
            return Err("settings are a JSON object".to_owned());
        };
        for (name, value) in patch {
            match (members.get_mut(name), value) {
                (Some(Value::Object(old)), Value::Object(new)) => old.extend(new.clone()),
                _ => drop(members.insert(name.clone(), value.clone())),
            }
        }
        serde_json::from_value(merged).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_patch_changes_what_it_names_and_nothing_else() {
        let bucket = json!({"capacity": 1.0, "refill": 1.0});
        let patched = Settings::default()
            .patched(&json!({"associating_ms": 7, "buckets": {"DescribeInstances": bucket}}))
            .unwrap();
        assert_eq!(patched.associating_ms, 7);
        assert_eq!(patched.disassociating_ms, 300);
        assert_eq!(patched.buckets["DescribeInstances"].capacity, 1.0);
        assert_eq!(patched.buckets["AssociateIamInstanceProfile"].capacity, 100.0);
    }

    #[test]
    fn a_setting_that_does_not_exist_is_refused() {
        let refused = Settings::default().patched(&json!({"asociating_ms": 7})).unwrap_err();
        assert!(refused.contains("asociating_ms"), "{refused}");
    }
}
