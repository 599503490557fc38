//! What `/readyz` tells: named checks, each awaited until it is met.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The checks that stand between a started process and a ready one. Before the first check is named, the
/// process is starting and not ready, so name all of them before the server listens.
#[derive(Debug, Default)]
pub struct Readiness {
    /// Name to what is awaited; `None` once met.
    checks: Mutex<BTreeMap<&'static str, Option<String>>>,
}

impl Readiness {
    /// No checks yet: not ready.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Names a check, unmet, with a text that says what is awaited, such as ("crds", "the CRDs are not
    /// installed: kubectl apply -k crds"). The handle is the only way to change it.
    pub fn check(self: &Arc<Self>, name: &'static str, awaited: impl Into<String>) -> Check {
        let check = Check { name, readiness: Arc::clone(self) };
        check.unmet(awaited);
        check
    }

    /// Every check is met.
    pub fn is_ready(&self) -> bool {
        let checks = self.lock();
        !checks.is_empty() && checks.values().all(Option::is_none)
    }

    /// One line for the whole and one for each check; what `/readyz` answers.
    pub fn report(&self) -> String {
        let mut text = String::from(if self.is_ready() { "ready\n" } else { "not ready\n" });
        let checks = self.lock();
        if checks.is_empty() {
            text.push_str("[-] starting\n");
        }
        for (name, awaited) in checks.iter() {
            // Writing to a String cannot fail.
            let _ = match awaited {
                None => writeln!(text, "[+] {name}"),
                Some(what) => writeln!(text, "[-] {name}: {what}"),
            };
        }
        text
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, Option<String>>> {
        self.checks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One named check of a [`Readiness`].
#[derive(Debug, Clone)]
pub struct Check {
    name: &'static str,
    readiness: Arc<Readiness>,
}

impl Check {
    /// What was awaited is there.
    pub fn met(&self) {
        self.readiness.lock().insert(self.name, None);
    }

    /// It is not there, or no longer; the text says what is awaited. Whether that is news.
    pub fn unmet(&self, awaited: impl Into<String>) -> bool {
        let awaited = Some(awaited.into());
        self.readiness.lock().insert(self.name, awaited.clone()) != Some(awaited)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_is_when_every_check_is_met_and_not_before_the_first() {
        let readiness = Readiness::new();
        assert!(!readiness.is_ready());
        assert_eq!(readiness.report(), "not ready\n[-] starting\n");

        let kubernetes = readiness.check("kubernetes", "the API server has not answered");
        let aws = readiness.check("aws", "no credentials found");
        kubernetes.met();
        assert!(!readiness.is_ready());
        assert_eq!(readiness.report(), "not ready\n[-] aws: no credentials found\n[+] kubernetes\n");

        aws.met();
        assert!(readiness.is_ready());
        assert_eq!(readiness.report(), "ready\n[+] aws\n[+] kubernetes\n");

        kubernetes.unmet("the watch has been broken for 2 min");
        assert!(!readiness.is_ready());
    }
}
