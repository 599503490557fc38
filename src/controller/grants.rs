//! The grants and the namespaces as last seen. Nothing is decided before both were listed: a controller that has
//! not read them yet must not take everybody for unauthorised.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use k8s_openapi::api::core::v1::Namespace;
use kube::ResourceExt;
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::Event;
use tokio::sync::{Notify, watch};

use super::readable::Readable;
use crate::api::{APPROVE_CHANGES, InstanceRoleGrant};
use crate::decide::Grant;
use crate::decide::grant::Labels;

/// A namespace, of which only name and labels are read.
pub type NamespaceMeta = PartialObjectMeta<Namespace>;

/// The grants and the namespaces as last seen.
#[derive(Debug, Default)]
pub struct Grants {
    known: Mutex<Known>,
    listed: watch::Sender<Listed>,
    news: Notify,
}

/// What was listed to its end at least once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Listed {
    grants: bool,
    namespaces: bool,
}

impl Listed {
    fn all(self) -> bool {
        self.grants && self.namespaces
    }
}

#[derive(Debug, Default)]
struct Known {
    grants: BTreeMap<String, Arc<Grant>>,
    namespaces: HashMap<String, Labels>,
    /// What a list that is being read has shown so far.
    listing_grants: BTreeMap<String, Arc<Grant>>,
    listing_namespaces: HashMap<String, Labels>,
    /// By namespace, until anything changes.
    covering: HashMap<String, Arc<[Arc<Grant>]>>,
    /// Namespaces whose bindings are to be judged anew.
    touched: HashSet<String>,
    /// Namespaces in which others may have room now.
    crowded: HashSet<String>,
    version: u64,
}

/// What is wrong with a grant, in words.
pub type Complaint = String;

impl Grants {
    /// Waits until grants and namespaces were listed once.
    pub async fn known(&self) {
        // The sender lives as long as self, so this cannot fail.
        let _ = self.listed.subscribe().wait_for(|listed| listed.all()).await;
    }

    /// Whether grants and namespaces were listed once.
    pub fn are_known(&self) -> bool {
        self.listed.borrow().all()
    }

    /// The grants that cover a namespace, by name.
    pub fn covering(&self, namespace: &str) -> Arc<[Arc<Grant>]> {
        let mut known = self.lock();
        if let Some(covering) = known.covering.get(namespace) {
            return Arc::clone(covering);
        }
        let labels = known.namespaces.get(namespace);
        let covers = |grant: &&Arc<Grant>| grant.covers_namespace(namespace, labels);
        let covering: Arc<[Arc<Grant>]> = known.grants.values().filter(covers).cloned().collect();
        known.covering.insert(namespace.to_owned(), Arc::clone(&covering));
        covering
    }

    /// Another number after each change.
    pub fn version(&self) -> u64 {
        self.lock().version
    }

    /// Has the bindings of a namespace judged anew.
    pub fn touch(&self, namespace: &str) {
        self.lock().touched.insert(namespace.to_owned());
        self.news.notify_one();
    }

    /// Notes that so many bindings are in a namespace that some may have no room, and that somebody came or went.
    pub fn crowd(&self, namespace: String) {
        self.lock().crowded.insert(namespace);
    }

    /// The namespaces that were noted since the last time.
    pub fn crowded(&self) -> HashSet<String> {
        std::mem::take(&mut self.lock().crowded)
    }

    /// Waits for namespaces whose bindings are to be judged anew.
    pub async fn touched(&self) -> HashSet<String> {
        loop {
            let touched = std::mem::take(&mut self.lock().touched);
            if !touched.is_empty() {
                return touched;
            }
            self.news.notified().await;
        }
    }

    /// Follows the watch of grants. What is wrong with the one that the event is about is returned: it grants nothing.
    pub fn follow(&self, event: &Event<Readable<InstanceRoleGrant>>) -> Option<Complaint> {
        match event {
            Event::Init => {
                self.lock().listing_grants.clear();
                None
            }
            Event::InitApply(Readable(object)) => {
                let (grant, complaint) = read(object);
                if let Some(grant) = grant {
                    self.lock().listing_grants.insert(object.name_any(), grant);
                }
                complaint
            }
            Event::InitDone => {
                let mut known = self.lock();
                let listed = std::mem::take(&mut known.listing_grants);
                let names: HashSet<String> = known.grants.keys().chain(listed.keys()).cloned().collect();
                for name in names {
                    known.set_grant(&name, listed.get(&name).cloned());
                }
                drop(known);
                self.has_listed(|listed| listed.grants = true);
                None
            }
            Event::Apply(Readable(object)) => {
                let (grant, complaint) = read(object);
                self.lock().set_grant(&object.name_any(), grant);
                self.news.notify_one();
                complaint
            }
            Event::Delete(Readable(object)) => {
                self.lock().set_grant(&object.name_any(), None);
                self.news.notify_one();
                None
            }
        }
    }

    /// Follows the watch of namespaces.
    pub fn follow_namespaces(&self, event: &Event<Readable<NamespaceMeta>>) {
        let mut known = self.lock();
        match event {
            Event::Init => known.listing_namespaces.clear(),
            Event::InitApply(Readable(namespace)) => {
                known.listing_namespaces.insert(namespace.name_any(), labels(namespace));
            }
            Event::InitDone => {
                let mut listed = std::mem::take(&mut known.listing_namespaces);
                let names: HashSet<String> = known.namespaces.keys().chain(listed.keys()).cloned().collect();
                for name in names {
                    let labels = listed.remove(&name);
                    known.set_namespace(name, labels);
                }
                drop(known);
                self.has_listed(|listed| listed.namespaces = true);
                return;
            }
            Event::Apply(Readable(namespace)) => {
                known.set_namespace(namespace.name_any(), Some(labels(namespace)))
            }
            Event::Delete(Readable(namespace)) => known.set_namespace(namespace.name_any(), None),
        }
        drop(known);
        self.news.notify_one();
    }

    /// Whether this is what is known of a grant.
    pub fn knows(&self, object: &InstanceRoleGrant) -> bool {
        let (grant, _) = read(object);
        self.lock().grants.get(&object.name_any()) == grant.as_ref()
    }

    /// Whether this is what is known of a namespace.
    pub fn knows_namespace(&self, namespace: &NamespaceMeta) -> bool {
        self.lock().namespaces.get(&namespace.name_any()) == Some(&labels(namespace))
    }

    fn has_listed(&self, what: impl Fn(&mut Listed)) {
        let before = self.are_known();
        if !before {
            // Nobody was judged yet, so nobody is to be judged anew.
            self.lock().touched.clear();
        }
        self.listed.send_modify(what);
        self.news.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn set_grant(&mut self, name: &str, grant: Option<Arc<Grant>>) {
        if self.grants.get(name) == grant.as_ref() {
            return;
        }
        let before = match grant.clone() {
            Some(grant) => self.grants.insert(name.to_owned(), grant),
            None => self.grants.remove(name),
        };
        let concerned = self.namespaces.iter().filter(|(namespace, labels)| {
            [&before, &grant].into_iter().flatten().any(|g| g.covers_namespace(namespace, Some(labels)))
        });
        self.touched.extend(concerned.map(|(namespace, _)| namespace.clone()));
        self.covering.clear();
        self.version += 1;
    }

    fn set_namespace(&mut self, name: String, labels: Option<Labels>) {
        if self.namespaces.get(&name) == labels.as_ref() {
            return;
        }
        match labels {
            Some(labels) => drop(self.namespaces.insert(name.clone(), labels)),
            None => drop(self.namespaces.remove(&name)),
        }
        self.covering.remove(&name);
        self.touched.insert(name);
        self.version += 1;
    }
}

/// A grant in deletion grants nothing any more, whoever still holds it back.
fn read(object: &InstanceRoleGrant) -> (Option<Arc<Grant>>, Option<Complaint>) {
    if object.metadata.deletion_timestamp.is_some() {
        return (None, None);
    }
    match Grant::parse(&object.name_any(), &object.spec) {
        Ok(grant) => {
            let approved = object.annotations().get(APPROVE_CHANGES).map(String::as_str);
            (Some(Arc::new(grant.approving(approved))), None)
        }
        Err(malformed) => (None, Some(format!("it grants nothing: {malformed}"))),
    }
}

fn labels(namespace: &NamespaceMeta) -> Labels {
    namespace.metadata.labels.clone().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn grant(name: &str, namespaces: serde_json::Value) -> Readable<InstanceRoleGrant> {
        serde_json::from_value(json!({
            "apiVersion": "instancerole.dev/v1alpha1", "kind": "InstanceRoleGrant", "metadata": {"name": name},
            "spec": {"namespaces": namespaces, "instanceProfiles": ["app"], "instances": {"regions": ["eu-west-1"]}},
        }))
        .unwrap()
    }

    fn namespace(name: &str, team: &str) -> Readable<NamespaceMeta> {
        serde_json::from_value(json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {"team": team}},
        }))
        .unwrap()
    }

    fn names(grants: &Grants, namespace: &str) -> Vec<String> {
        grants.covering(namespace).iter().map(|grant| grant.name.to_string()).collect()
    }

    #[tokio::test]
    async fn a_change_of_grants_or_labels_is_seen_at_once_and_wakes_those_concerned() {
        let grants = Grants::default();
        let by_team = json!({"selector": {"matchLabels": {"team": "a"}}});
        for event in [Event::Init, Event::InitApply(namespace("one", "a")), Event::InitDone] {
            grants.follow_namespaces(&event);
        }
        assert!(!grants.are_known());
        for event in [Event::Init, Event::InitApply(grant("team-a", by_team.clone())), Event::InitDone] {
            grants.follow(&event);
        }
        grants.known().await;
        assert_eq!(names(&grants, "one"), ["team-a"]);
        grants.follow_namespaces(&Event::Apply(namespace("one", "b")));
        assert!(names(&grants, "one").is_empty());
        assert_eq!(grants.touched().await, HashSet::from(["one".to_owned()]));
        grants.follow(&Event::Apply(grant("named", json!({"names": ["one"]}))));
        assert_eq!(names(&grants, "one"), ["named"]);
        grants.follow(&Event::Delete(grant("named", json!({"names": ["one"]}))));
        assert!(names(&grants, "one").is_empty());
    }

    #[test]
    fn a_namespace_that_was_not_seen_has_no_labels_to_match_by_not_even_by_their_absence() {
        let grants = Grants::default();
        let absent = json!({"selector": {"matchExpressions": [{"key": "team", "operator": "DoesNotExist"}]}});
        grants.follow(&Event::Apply(grant("untamed", absent)));
        grants.follow(&Event::Apply(grant("all", json!({"selector": {}}))));
        assert!(names(&grants, "unseen").is_empty());
    }

    #[test]
    fn a_list_that_is_read_again_takes_away_what_is_gone() {
        let grants = Grants::default();
        grants.follow_namespaces(&Event::Apply(namespace("one", "a")));
        grants.follow(&Event::Apply(grant("old", json!({"names": ["one"]}))));
        for event in [Event::Init, Event::InitApply(grant("new", json!({"names": ["one"]}))), Event::InitDone]
        {
            grants.follow(&event);
        }
        assert_eq!(names(&grants, "one"), ["new"]);
    }

    #[test]
    fn what_cannot_be_read_or_is_in_deletion_grants_nothing() {
        let grants = Grants::default();
        let mut bad = grant("bad", json!({"names": ["one"]}));
        bad.0.spec.instance_profiles = vec!["*".into()];
        let complaint = grants.follow(&Event::Apply(bad)).unwrap();
        assert!(complaint.starts_with("it grants nothing"), "{complaint}");
        let mut leaving = grant("leaving", json!({"names": ["one"]}));
        leaving.0.metadata.deletion_timestamp =
            Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(jiff::Timestamp::now()));
        assert_eq!(grants.follow(&Event::Apply(leaving)), None);
        assert!(names(&grants, "one").is_empty());
    }
}
