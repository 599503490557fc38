//! The rules by which one of several candidates leads: no I/O, no clock of its own.
//!
//! Whoever leads renews the Lease every `retry_period`, and counts itself as leading until `renew_deadline` after it *sent*
//! the last renewal that was confirmed. The others take over no sooner than `duration` after they *saw* the Lease change
//! for the last time. What the Lease's own times say is for people: no candidate believes another's clock. So whatever is
//! lost, late or stopped in between, two never lead at once, as long as their clocks run within a factor of
//! `duration / renew_deadline` of each other. Each write of the Lease carries the version that it rests on.

use std::time::Duration;

use jiff::Timestamp;

use super::clock::Moment;

/// How long is led, and how often renewed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Terms {
    duration: Duration,
    renew_deadline: Duration,
    retry_period: Duration,
}

/// Terms that would let two lead at once, or none for long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    /// A leader could still write when another may take over.
    #[error(
        "--lease-duration ({0:?}) must be longer than --renew-deadline ({1:?}): a write that was begun before the deadline has the \
         difference to end in; raise --lease-duration or lower --renew-deadline (defaults: 15s and 10s)"
    )]
    Deadline(Duration, Duration),
    /// There would be no second try.
    #[error(
        "--renew-deadline ({0:?}) must be longer than --retry-period ({1:?}): else a single failed renewal ends the lead; raise \
         --renew-deadline or lower --retry-period (defaults: 10s and 2s)"
    )]
    Retry(Duration, Duration),
}

impl Terms {
    /// The Lease's duration, by when it must have been renewed, and how long from try to try.
    ///
    /// # Errors
    /// They are not in this order, the longest first.
    pub fn new(duration: Duration, renew_deadline: Duration, retry_period: Duration) -> Result<Self, Misfit> {
        if duration <= renew_deadline {
            return Err(Misfit::Deadline(duration, renew_deadline));
        }
        if renew_deadline <= retry_period {
            return Err(Misfit::Retry(renew_deadline, retry_period));
        }
        Ok(Self { duration, renew_deadline, retry_period })
    }

    /// How long a write may take that was begun just before the deadline: it is over before anybody takes over.
    pub fn write_limit(&self) -> Duration {
        self.duration.saturating_sub(self.renew_deadline)
    }

    /// How long one request may take: there is time for another one before the deadline.
    pub fn request_limit(&self) -> Duration {
        self.renew_deadline / 2
    }

    /// The duration as the Lease has it, in whole seconds; never shorter.
    fn whole_seconds(&self) -> Duration {
        Duration::from_secs(self.duration.as_secs() + u64::from(self.duration.subsec_nanos() > 0))
    }
}

/// What a Lease says.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Record {
    /// Who leads; nobody where it was released.
    pub holder: Option<String>,
    /// For how long after a change nobody else takes over.
    pub duration: Option<Duration>,
    /// When the holder came to lead, by its clock.
    pub acquired: Option<Timestamp>,
    /// When it renewed last, by its clock.
    pub renewed: Option<Timestamp>,
    /// How often another one came to lead.
    pub transitions: i32,
}

/// The version of a Lease that a write rests on.
pub type Version = String;

/// What is to be done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Read the Lease.
    Read,
    /// Write it: [`Candidate::bid`] says what.
    Bid,
    /// Nothing until then, unless something is seen before.
    Rest(Moment),
    /// The deadline has passed: lead no more.
    StandDown,
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The Lease was read; none: there is no such Lease.
    Found(Option<(Record, Version)>),
    /// The bid was taken; the Lease has this version now.
    Taken(Version),
    /// The Lease is not as the bid supposed.
    Refused,
    /// No answer, or an error: the bid may have been taken or not.
    Failed,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Lease {
    /// It has to be read.
    Unknown,
    Absent,
    There(Record, Version),
}

/// One of those who would lead.
#[derive(Debug, Clone)]
pub struct Candidate {
    identity: String,
    terms: Terms,
    lease: Lease,
    /// What the Lease said when it was last seen to change.
    last: Option<Record>,
    /// Until then somebody else may lead, by all that was seen.
    taken_until: Moment,
    /// While it leads: when the renewal was sent that was confirmed last.
    renewed: Option<Moment>,
    /// The last bid, and when it was sent.
    bid: Option<(Moment, Record)>,
    /// When the last request was sent.
    asked: Moment,
    /// No request before that.
    not_before: Moment,
}

impl Candidate {
    /// One that knows nothing yet. No other one, before or after, may have the same identity.
    pub fn new(identity: String, terms: Terms) -> Self {
        Self {
            identity,
            terms,
            lease: Lease::Unknown,
            last: None,
            taken_until: Moment::ZERO,
            renewed: None,
            bid: None,
            asked: Moment::ZERO,
            not_before: Moment::ZERO,
        }
    }

    /// The terms that it keeps.
    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    /// Before this moment it may begin to write; none: it does not lead.
    pub fn leads_until(&self) -> Option<Moment> {
        self.renewed.map(|sent| sent + self.terms.renew_deadline)
    }

    /// Who else leads, as last seen.
    pub fn other(&self) -> Option<&str> {
        let Lease::There(record, _) = &self.lease else { return None };
        record.holder.as_deref().filter(|holder| *holder != self.identity)
    }

    /// What to do now.
    pub fn step(&self, now: Moment) -> Step {
        let end = self.leads_until();
        if end.is_some_and(|end| now >= end) {
            return Step::StandDown;
        }
        let rest = |until: Moment| Step::Rest(end.map_or(until, |end| until.min(end)));
        if now < self.not_before {
            return rest(self.not_before);
        }
        match self.lease {
            Lease::Unknown => Step::Read,
            _ if end.is_some() || now >= self.taken_until || self.is_own_bid(now) => Step::Bid,
            Lease::Absent | Lease::There(..) => rest(self.taken_until),
        }
    }

    /// Whether the Lease is as this one last bade, so lately that nobody can have led since: the answer was lost.
    fn is_own_bid(&self, now: Moment) -> bool {
        let Lease::There(there, _) = &self.lease else { return false };
        self.bid.as_ref().is_some_and(|(sent, bid)| bid == there && now < *sent + self.terms.duration)
    }

    /// A read is sent.
    pub fn reads(&mut self, now: Moment) {
        self.asked = now;
    }

    /// A bid is sent: what the Lease is to say, and the version that it must have; none: it must not be there. `wall` is the
    /// time that people read.
    pub fn bid(&mut self, now: Moment, wall: Timestamp) -> (Record, Option<Version>) {
        let (before, version) = match &self.lease {
            Lease::There(record, version) => (Some(record), Some(version.clone())),
            Lease::Absent | Lease::Unknown => (self.last.as_ref(), None),
        };
        let ours = before.filter(|record| record.holder.as_deref() == Some(&self.identity));
        let record = Record {
            holder: Some(self.identity.clone()),
            duration: Some(self.terms.whole_seconds()),
            acquired: ours.and_then(|record| record.acquired).or(Some(wall)),
            renewed: Some(wall),
            transitions: match (ours, before) {
                (Some(same), _) => same.transitions,
                (None, Some(other)) => other.transitions.saturating_add(1),
                (None, None) => 0,
            },
        };
        self.asked = now;
        self.bid = Some((now, record.clone()));
        (record, version)
    }

    /// The Lease as a watch shows it. Whoever leads learns by its renewals: a watch may show the past.
    pub fn watched(&mut self, lease: Option<(Record, Version)>, now: Moment) {
        if self.renewed.is_none() {
            self.saw(lease, now);
        }
    }

    /// The answer to the request that was sent last.
    pub fn answered(&mut self, answer: Answer, now: Moment) {
        match answer {
            Answer::Found(lease) => self.saw(lease, now),
            Answer::Taken(version) => self.is_taken(version, now),
            // Whoever changed it may lead now, so that is looked at first.
            Answer::Refused => self.lease = Lease::Unknown,
            Answer::Failed => self.not_before = self.asked + self.terms.retry_period,
        }
    }

    fn is_taken(&mut self, version: Version, now: Moment) {
        let Some((sent, record)) = self.bid.clone() else { return };
        self.taken_until = now + self.terms.whole_seconds();
        self.last = Some(record.clone());
        self.lease = Lease::There(record, version);
        // An answer after the deadline comes too late for this time of leading: the next bid begins another.
        let end = self.leads_until().unwrap_or(sent + self.terms.renew_deadline);
        self.renewed = (now < end).then_some(sent);
        if self.renewed.is_some() {
            self.not_before = sent + self.terms.retry_period;
        }
    }

    fn saw(&mut self, lease: Option<(Record, Version)>, now: Moment) {
        let Some((record, version)) = lease else {
            // Somebody removed it. Whoever led by it may lead a while yet, and may have renewed it unseen before.
            if let (Some(last), false) = (&self.last, self.lease == Lease::Absent) {
                self.taken_until = now + last.duration.unwrap_or_default().max(self.terms.duration);
            }
            self.lease = Lease::Absent;
            return;
        };
        if self.last.as_ref() != Some(&record) {
            match &record.holder {
                Some(_) => self.taken_until = now + record.duration.unwrap_or(self.terms.duration),
                // Released. But what is older than what was seen, as after a restore of the API server's data, is no news.
                None if self.last.as_ref().is_none_or(|last| last.transitions <= record.transitions) => {
                    self.taken_until = Moment::ZERO
                }
                None => self.taken_until = now + self.terms.duration,
            }
            self.last = Some(record.clone());
        }
        if record.holder.as_deref() != Some(&self.identity) {
            self.renewed = None;
        }
        self.lease = Lease::There(record, version);
    }

    /// Leads no more, of its own will or because the deadline has passed.
    pub fn stands_down(&mut self) {
        self.renewed = None;
    }

    /// Leads no more, and lets the next one begin at once: what the Lease is to say, and the version that it must have. Only
    /// after the last write has ended. None: there is nothing to release.
    pub fn release(&mut self, wall: Timestamp) -> Option<(Record, Version)> {
        self.renewed.take()?;
        let Lease::There(record, version) = &self.lease else { return None };
        // As others of this family write it: they would wait for the duration of a record without a holder.
        let (duration, times) = (Some(Duration::from_secs(1)), Some(wall));
        let released = Record {
            holder: None,
            duration,
            acquired: times,
            renewed: times,
            transitions: record.transitions,
        };
        Some((released, version.clone()))
    }
}

#[cfg(test)]
mod tests;
