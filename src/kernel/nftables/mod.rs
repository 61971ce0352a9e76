//! nf_tables over netlink: reads our table, or creates it in one transaction.

mod batch;
mod decode;
mod encode;
mod foreign;
mod read;
mod sets;
mod socket;
mod uapi;

use nix::errno::Errno;

use self::{batch::Batch, socket::Socket};
use super::KernelError;
use crate::{
    deadline::Deadline,
    plan::{Form, Plan, Preempting, nft::Table},
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
    pub fn read(&mut self) -> Result<Option<Table>, KernelError> {
        const ATTEMPTS: u32 = 3; // somebody else's change in between makes a dump inconsistent
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

    /// Foreign base chains that packets may meet before the plan's, and what they decide.
    pub fn in_front(&mut self, plan: &Plan, form: Form) -> Result<Vec<Preempting>, KernelError> {
        foreign::in_front(&mut self.socket, plan, form)
    }

    /// Creates the table, or replaces the one that was read: all of it for both families, or nothing. Fails with
    /// [`KernelError::Overtaken`] if anything has changed since the last read: the kernel then refuses the whole transaction.
    pub fn apply(&mut self, table: &Table, found: Option<&Table>) -> Result<(), KernelError> {
        let batch = Batch::of(table, found, self.generation, self.socket.next_sequence());
        match self.socket.transact(&batch.bytes, batch.first, batch.last) {
            Ok(()) => Ok(()),
            Err((_, Errno::EEXIST | Errno::ERESTART)) => Err(KernelError::Overtaken),
            Err((sequence, errno)) => Err(KernelError::of_nf_tables(
                batch.describe(table, sequence),
                errno,
            )),
        }
    }

    /// Whether any table of this namespace has a chain of Istio's.
    pub fn has_chains_of_istio(&mut self) -> Result<bool, KernelError> {
        foreign::has_chains_of_istio(&mut self.socket)
    }
}
