//! nf_tables over netlink: reads our table, or creates it in one transaction.

mod batch;
mod decode;
mod encode;
mod foreign;
mod read;
mod sets;
mod socket;
mod uapi;
mod value;

use nix::errno::Errno;

use self::{batch::Batch, socket::Socket};
use super::{Backend, KernelError, legacy::legacy_tables, modules};
use crate::{
    deadline::Deadline,
    plan::{
        Difference, Form, Plan, Preempting,
        nft::{Hook, Table},
    },
};

/// nf_tables of the network namespace in which it was opened.
pub struct Nftables {
    socket: Socket,
    /// Of the last read.
    generation: Option<u32>,
}

impl Nftables {
    /// Opens a socket in this thread's namespace.
    pub fn open(deadline: Deadline) -> Result<Self, KernelError> {
        Ok(Self {
            socket: Socket::open(deadline)?,
            generation: None,
        })
    }

    /// Our table as the kernel has it, in the plan's own types; `None` if there is none.
    pub fn table(&mut self) -> Result<Option<Table>, KernelError> {
        const ATTEMPTS: u32 = 3; // another program's change in between makes a dump inconsistent
        for _ in 0..ATTEMPTS {
            match read::table(&mut self.socket) {
                Err(KernelError::Changing) => {}
                Err(error) => return Err(error),
                Ok((generation, table)) => {
                    self.generation = generation;
                    return Ok(table);
                }
            }
        }
        Err(KernelError::Changing)
    }

    /// Foreign base chains that packets may meet before the plan's, which are at these hooks, and what they decide.
    pub fn in_front<'a>(
        &mut self,
        plan: &Plan,
        hooks: impl Iterator<Item = &'a Hook> + Clone,
        form: Form,
    ) -> Result<Vec<Preempting>, KernelError> {
        foreign::in_front(&mut self.socket, plan, hooks, form)
    }

    /// Creates the table, or replaces the one that was read: all of it for both families, or nothing. Fails with
    /// [`KernelError::Conflict`] if anything has changed since the last read: the kernel then refuses the whole transaction.
    pub fn replace(&mut self, found: Option<&Table>, table: &Table) -> Result<(), KernelError> {
        let batch = Batch::of(table, found, self.generation, self.socket.next_sequence());
        match self.socket.transact(&batch.bytes, batch.first, batch.last) {
            Ok(()) => Ok(()),
            Err((_, Errno::EEXIST | Errno::ERESTART)) => Err(KernelError::Conflict),
            Err((sequence, errno)) => Err(KernelError::of_nf_tables(
                batch.describe(table, sequence),
                errno,
                batch.rule(table, sequence).and_then(modules::of_nftables),
            )),
        }
    }

    /// Whether any table of this namespace has a chain of Istio's.
    pub fn has_chains_of_istio(&mut self) -> Result<bool, KernelError> {
        foreign::has_chains_of_istio(&mut self.socket)
    }
}

impl Backend for Nftables {
    type Rules = Table;
    type Found = Option<Table>;

    const IS_ATOMIC: bool = true;
    const SEES_PREEMPTING_FIRST: bool = true;

    fn form(&self) -> Form {
        Form::Nftables
    }

    fn lower(&self, plan: &Plan) -> Table {
        plan.nftables()
    }

    fn read(&mut self, _: &Plan) -> Result<Option<Table>, KernelError> {
        self.table()
    }

    fn differences(_: &Plan, rules: &Table, found: &Option<Table>) -> Vec<Difference> {
        rules.differences(found.as_ref())
    }

    fn is_untouched(found: &Option<Table>) -> bool {
        found.is_none()
    }

    fn redirects_nothing(found: &Option<Table>) -> bool {
        let nothing = |table: &Table| {
            table.flags != 0 || table.chains.iter().any(|chain| chain.rules.is_empty())
        };
        found.as_ref().is_none_or(nothing)
    }

    fn apply(&mut self, rules: &Table, found: &Option<Table>) -> Result<(), KernelError> {
        self.replace(found.as_ref(), rules)
    }

    fn preempting(
        &mut self,
        plan: &Plan,
        rules: &Table,
        _: &Option<Table>,
    ) -> Result<Vec<Preempting>, KernelError> {
        let mut all = self.in_front(plan, rules.hooks(), Form::Nftables)?;
        all.extend(legacy_tables());
        Ok(all)
    }
}
