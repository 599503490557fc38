//! Every call, in the order it came in.

use std::collections::VecDeque;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::error::ApiError;
use crate::time::{Millis, iso};

/// One call.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// Its number, from 1.
    pub seq: u64,
    /// When it came in.
    pub time: String,
    /// The same, in milliseconds since the epoch.
    pub started_ms: Millis,
    /// When it was answered or given up; absent while it is in flight.
    pub ended_ms: Option<Millis>,
    /// When it was carried out, if it was.
    pub effect_ms: Option<Millis>,
    /// The caller's account; empty when the caller is unknown.
    pub account: String,
    /// The Region.
    pub region: String,
    /// `ec2`, `iam` or `sts`.
    pub service: String,
    /// The action.
    pub action: String,
    /// Its parameters as they came.
    pub params: Map<String, Value>,
    /// The caller's ARN; empty when the caller is unknown.
    pub identity: String,
    /// The caller's access key.
    pub access_key: String,
    /// The caller's user agent.
    pub user_agent: String,
    /// `pending`, `ok`, an error code, or `dropped` when the call was never carried out.
    pub result: String,
    /// The message of the error.
    pub message: Option<String>,
    /// The request id of the reply.
    pub request_id: String,
    /// Whether the client got the reply.
    pub delivered: bool,
    /// The fault that hit it.
    pub fault: Option<u64>,
    /// The instance a write is about.
    pub instance: Option<String>,
    /// The profile it carried before.
    pub from_profile: Option<String>,
    /// The profile asked for.
    pub to_profile: Option<String>,
}

/// The calls that are kept.
#[derive(Debug, Default)]
pub struct Journal {
    entries: VecDeque<Entry>,
    last: u64,
}

impl Journal {
    /// Writes down that a call came in.
    pub fn begin(&mut self, mut entry: Entry, limit: usize) -> u64 {
        self.last += 1;
        entry.seq = self.last;
        entry.time = iso(entry.started_ms);
        self.entries.push_back(entry);
        while self.entries.len() > limit {
            self.entries.pop_front();
        }
        self.last
    }

    /// The entry of a call, if it is still kept.
    pub fn entry(&mut self, seq: u64) -> Option<&mut Entry> {
        let first = self.entries.front()?.seq;
        self.entries.get_mut(usize::try_from(seq.checked_sub(first)?).ok()?)
    }

    /// Entries after `since`.
    pub fn since(&self, since: u64) -> impl Iterator<Item = &Entry> {
        let start = self.entries.partition_point(|entry| entry.seq <= since);
        self.entries.range(start..)
    }

    /// The number of the last call.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// Forgets all entries; numbers go on.
    pub fn clear(&mut self) {
        self.entries.clear();
    }
}

impl Entry {
    /// Writes down how the call was carried out.
    pub fn carried_out(&mut self, now: Millis, result: Result<(), &ApiError>) {
        self.effect_ms = Some(now);
        self.refused_or_ok(result);
    }

    /// Writes down what was answered to a call.
    pub fn refused_or_ok(&mut self, result: Result<(), &ApiError>) {
        match result {
            Ok(()) => self.result = "ok".to_owned(),
            Err(error) => {
                self.result.clone_from(&error.code);
                self.message = Some(error.message.clone());
            }
        }
    }
}
