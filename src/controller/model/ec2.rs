//! EC2 as the model has it: one instance, its rows, what reads may still show of the past. The rules are those of the
//! sandbox (`aws-semantics` 1.3 and 1.5); `conformance` compares the two step by step.

/// The profiles there are: two that the binding may declare, and one that only outsiders attach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Profile {
    App,
    Old,
    Other,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Power {
    Pending,
    Running,
    Stopping,
    Stopped,
    Terminated,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RowState {
    Associating,
    Associated,
    Disassociating,
    /// Only in a reply.
    Disassociated,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Row {
    pub id: u8,
    pub profile: Profile,
    pub state: RowState,
    /// It does not move on by itself, and no Replace works beside it.
    pub stuck: bool,
}

impl Row {
    pub fn is_live(&self) -> bool {
        matches!(self.state, RowState::Associating | RowState::Associated)
    }
}

/// One of the three writes, as EC2 gets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Call {
    Associate(Profile),
    Replace(u8, Profile),
    Disassociate(u8),
}

/// Why EC2 did nothing; each is one meaning of `src/ec2/error.rs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// An association exists, is gone, or is not the active one.
    Overtaken,
    /// Neither running nor stopped.
    InstanceState,
    ProfileUnknown,
    Denied,
    Throttled,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Ec2 {
    pub power: Power,
    pub rows: Vec<Row>,
    /// What reads may still show, until it has settled.
    pub past: Option<Vec<Row>>,
    /// `iam:PassRole` for App is denied.
    pub denied: bool,
    /// EC2 does not know App.
    pub unknown: bool,
    /// The id of the next association.
    pub next: u8,
}

impl Ec2 {
    pub fn new(power: Power, carries: Option<Profile>) -> Self {
        let row = |profile| Row { id: 0, profile, state: RowState::Associated, stuck: false };
        let rows = carries.map(row).into_iter().collect();
        Self { power, rows, past: None, denied: false, unknown: false, next: 1 }
    }

    pub fn live(&self) -> Option<&Row> {
        self.rows.iter().find(|row| row.is_live())
    }

    pub fn carries(&self) -> Option<Profile> {
        self.live().map(|row| row.profile)
    }

    /// What existence and authorization have against attaching a profile: all that a dry run tells.
    pub fn refuses(&self, profile: Profile) -> Option<Refusal> {
        match profile {
            Profile::App if self.unknown => Some(Refusal::ProfileUnknown),
            Profile::App if self.denied => Some(Refusal::Denied),
            _ => None,
        }
    }

    /// Carries a call out; the reply's row. Checks in the order of the sandbox.
    pub fn call(&mut self, call: Call) -> Result<Row, Refusal> {
        let before = self.rows.clone();
        let result = match call {
            Call::Associate(profile) => self.associate(profile),
            Call::Replace(id, profile) => self.replace(id, profile),
            Call::Disassociate(id) => self.disassociate(id),
        };
        if self.rows != before {
            self.past.get_or_insert(before);
        }
        result
    }

    fn associate(&mut self, profile: Profile) -> Result<Row, Refusal> {
        self.refuses(profile).map_or(Ok(()), Err)?;
        self.takes_changes()?;
        if self.rows.is_empty() { Ok(self.arrive(profile)) } else { Err(Refusal::Overtaken) }
    }

    fn replace(&mut self, id: u8, profile: Profile) -> Result<Row, Refusal> {
        let row = *self.row(id)?;
        self.refuses(profile).map_or(Ok(()), Err)?;
        let stuck = self.rows.iter().any(|row| row.stuck);
        if self.power != Power::Running || !row.is_live() || stuck {
            return Err(Refusal::Overtaken);
        }
        if row.profile == profile {
            return Ok(row);
        }
        self.row(id)?.state = RowState::Disassociating;
        Ok(self.arrive(profile))
    }

    fn disassociate(&mut self, id: u8) -> Result<Row, Refusal> {
        self.row(id)?;
        self.takes_changes()?;
        let stopped = self.power == Power::Stopped;
        let row = self.row(id)?;
        (row.state, row.stuck) = (RowState::Disassociating, false);
        let mut row = *row;
        if stopped {
            self.rows.retain(|row| row.id != id);
            row.state = RowState::Disassociated;
        }
        Ok(row)
    }

    fn row(&mut self, id: u8) -> Result<&mut Row, Refusal> {
        self.rows.iter_mut().find(|row| row.id == id).ok_or(Refusal::Overtaken)
    }

    fn takes_changes(&self) -> Result<(), Refusal> {
        match self.power {
            Power::Running | Power::Stopped => Ok(()),
            _ => Err(Refusal::InstanceState),
        }
    }

    fn arrive(&mut self, profile: Profile) -> Row {
        let row = Row { id: self.next, profile, state: RowState::Associating, stuck: false };
        self.next += 1;
        self.rows.push(row);
        row
    }

    /// What is under way with a row gets done; false if there is nothing.
    pub fn moves_on(&mut self) -> bool {
        let running = self.power == Power::Running;
        let before = self.rows.clone();
        self.rows.retain(|row| row.state != RowState::Disassociating || row.stuck);
        for row in &mut self.rows {
            if row.state == RowState::Associating && running && !row.stuck {
                row.state = RowState::Associated;
            }
        }
        self.rows != before
    }

    /// The instance gets where it is going; false if it is there.
    pub fn powers_on(&mut self) -> bool {
        let next = match self.power {
            Power::Pending => Power::Running,
            Power::Stopping => Power::Stopped,
            _ => return false,
        };
        self.power = next;
        true
    }

    pub fn terminate(&mut self) {
        self.power = Power::Terminated;
        self.rows.clear();
        self.past = None;
    }

    /// What somebody else does: the console, another tool.
    pub fn outsider_attaches(&mut self) -> bool {
        let call = match self.live() {
            Some(row) if row.profile == Profile::Other => return false,
            Some(row) if self.power == Power::Running => Call::Replace(row.id, Profile::Other),
            Some(row) => {
                let id = row.id;
                let detached = self.call(Call::Disassociate(id)).is_ok();
                return detached && self.call(Call::Associate(Profile::Other)).is_ok();
            }
            None => Call::Associate(Profile::Other),
        };
        self.call(call).is_ok()
    }

    pub fn outsider_detaches(&mut self) -> bool {
        let Some(id) = self.live().map(|row| row.id) else { return false };
        self.call(Call::Disassociate(id)).is_ok()
    }
}
