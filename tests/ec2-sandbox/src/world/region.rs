//! One EC2: the instances of an account in a Region, and the indexes that keep listing quick.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::association::Association;
use super::ids::{check_association_id, check_instance_id, no_such_association, no_such_instance};
use super::instance::Instance;
use crate::error::ApiError;
use crate::time::Millis;

/// How long a row that is gone is kept, so that lagging reads can still show it.
const KEEP_GONE: Millis = 10 * 60 * 1000;

/// Instances and associations of one account in one Region.
#[derive(Debug, Default)]
pub struct Ec2 {
    instances: HashMap<Arc<str>, Instance>,
    /// Instance by serial, the order of listings; and association by serial, with its instance.
    by_serial: BTreeMap<u64, Arc<str>>,
    rows_by_serial: BTreeMap<u64, (Arc<str>, Arc<str>)>,
    by_association: HashMap<Arc<str>, Arc<str>>,
    next_serial: u64,
    /// Instances by client token of RunInstances.
    pub launches: HashMap<String, Vec<Arc<str>>>,
}

impl Ec2 {
    pub fn serial(&mut self) -> u64 {
        self.next_serial += 1;
        self.next_serial
    }

    pub fn insert(&mut self, instance: Instance) {
        self.by_serial.insert(instance.serial, instance.id.clone());
        for row in &instance.rows {
            self.by_association.insert(row.id.clone(), instance.id.clone());
            self.rows_by_serial.insert(row.serial, (instance.id.clone(), row.id.clone()));
        }
        self.instances.insert(instance.id.clone(), instance);
    }

    /// Adds a row to an instance and forgets rows of it that have long been gone.
    pub fn add_row(&mut self, id: &str, row: Association, now: Millis) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        let (kept, old): (Vec<_>, Vec<_>) = std::mem::take(&mut instance.rows)
            .into_iter()
            .partition(|row| row.gone.is_none_or(|gone| gone.saturating_add(KEEP_GONE) > now));
        instance.rows = kept;
        for row in old {
            self.by_association.remove(&row.id);
            self.rows_by_serial.remove(&row.serial);
        }
        self.by_association.insert(row.id.clone(), instance.id.clone());
        self.rows_by_serial.insert(row.serial, (instance.id.clone(), row.id.clone()));
        instance.rows.push(row);
    }

    pub fn get(&self, id: &str) -> Option<&Instance> {
        self.instances.get(id)
    }

    pub fn get_mut(&mut self, id: &str) -> Option<&mut Instance> {
        self.instances.get_mut(id)
    }

    /// The instance of an association, whether the row still lives or not.
    pub fn of_association(&self, association: &str) -> Option<&Instance> {
        self.by_association.get(association).and_then(|id| self.instances.get(id))
    }

    /// Newest first, from below `below` on.
    pub fn newest_first(&self, below: u64) -> impl Iterator<Item = &Instance> {
        self.by_serial.range(..below).rev().filter_map(|(_, id)| self.instances.get(id))
    }

    /// Rows, newest first, from below `below` on.
    pub fn rows_newest_first(&self, below: u64) -> impl Iterator<Item = (&Instance, &Association)> {
        self.rows_by_serial.range(..below).rev().filter_map(|(_, (instance, row))| {
            let instance = self.instances.get(instance)?;
            Some((instance, instance.row(row)?))
        })
    }

    pub fn all(&self) -> impl Iterator<Item = &Instance> {
        self.by_serial.values().filter_map(|id| self.instances.get(id))
    }

    /// The instance `id` at `at`, or the error EC2 gives: malformed before not found.
    pub fn existing(&self, id: &str, at: Millis, tombstone: Millis) -> Result<&Instance, ApiError> {
        check_instance_id(id)?;
        self.get(id).filter(|instance| instance.is_listed(at, tombstone)).ok_or_else(|| no_such_instance(id))
    }

    /// Instance and row of a living association, or the error EC2 gives.
    pub fn living_row(&self, association: &str, at: Millis) -> Result<(&Instance, &Association), ApiError> {
        check_association_id(association)?;
        self.of_association(association)
            .and_then(|instance| Some((instance, instance.row(association)?)))
            .filter(|(_, row)| row.state(at).is_some())
            .ok_or_else(|| no_such_association(association))
    }
}

impl Ec2 {
    /// The rows of some instances.
    pub fn rows_of<'a>(&'a self, ids: &'a [String]) -> impl Iterator<Item = (&'a Instance, &'a Association)> {
        ids.iter()
            .filter_map(|id| self.get(id))
            .flat_map(|instance| instance.rows.iter().map(move |row| (instance, row)))
    }

    /// The rows of some association ids.
    pub fn rows_named<'a>(
        &'a self,
        ids: &'a [String],
    ) -> impl Iterator<Item = (&'a Instance, &'a Association)> {
        ids.iter().filter_map(|id| {
            let instance = self.of_association(id)?;
            Some((instance, instance.row(id)?))
        })
    }
}
