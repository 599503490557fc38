//! Time as the state machine sees it: a number given by the caller, and values with a past and a planned future.

/// Milliseconds since the Unix epoch.
pub type Millis = u64;

/// A value over time. Entries may lie in the future: a state that is reached by itself is written down when
/// it is caused, and reading at an earlier moment shows the past. This is what makes lagging reads exact.
#[derive(Debug, Clone, Default)]
pub struct History<T> {
    steps: Vec<(Millis, T)>,
}

impl<T> History<T> {
    /// A history whose first value holds from `from`; before that there was nothing.
    pub fn starting(from: Millis, value: T) -> Self {
        Self { steps: vec![(from, value)] }
    }

    /// The value at `at`, or `None` before the first.
    pub fn at(&self, at: Millis) -> Option<&T> {
        let end = self.steps.partition_point(|(from, _)| *from <= at);
        end.checked_sub(1).and_then(|last| self.steps.get(last)).map(|(_, value)| value)
    }

    /// Sets the value from `from` on and forgets whatever was planned after it.
    pub fn set(&mut self, from: Millis, value: T) {
        self.steps.retain(|(at, _)| *at < from);
        self.steps.push((from, value));
    }

    /// Plans a value without forgetting earlier plans; it never takes effect before what is already planned.
    pub fn plan(&mut self, from: Millis, value: T) {
        let from = self.steps.last().map_or(from, |(last, _)| from.max(*last));
        self.steps.push((from, value));
    }

    /// When the last entry takes effect, and what it is.
    pub fn last(&self) -> Option<&(Millis, T)> {
        self.steps.last()
    }

    /// All steps in order of time.
    pub fn steps(&self) -> &[(Millis, T)] {
        &self.steps
    }
}

/// `2026-11-23T20:48:54.123Z`, the form EC2 and IAM use.
pub fn iso(at: Millis) -> String {
    let at = i64::try_from(at).unwrap_or(i64::MAX);
    jiff::Timestamp::from_millisecond(at).map(|at| format!("{at:.3}")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_planned_value_is_seen_only_from_its_moment_on() {
        let mut history = History::starting(10, "pending");
        history.plan(20, "running");
        assert_eq!(history.at(9), None);
        assert_eq!(history.at(19), Some(&"pending"));
        assert_eq!(history.at(20), Some(&"running"));
    }

    #[test]
    fn setting_a_value_cancels_what_was_planned_after_it() {
        let mut history = History::starting(10, "pending");
        history.plan(20, "running");
        history.set(15, "shutting-down");
        assert_eq!(history.at(30), Some(&"shutting-down"));
        assert_eq!(history.at(12), Some(&"pending"));
    }

    #[test]
    fn times_are_printed_with_milliseconds() {
        assert_eq!(iso(1_500), "1970-01-01T00:00:01.500Z");
    }
}
