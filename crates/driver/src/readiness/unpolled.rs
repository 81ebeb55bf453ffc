//! Files that the multiplexer refuses to watch because they never block: `/dev/null` and its like
//! under epoll. poll(2) and select(2) report these as ready in every wait, so the same happens
//! here: a program whose standard input is `/dev/null` reads its end under every driver.

use oxlip_core::id::Id;
use oxlip_core::op::Completion;

use super::Readiness;
use super::resource::{Kind, Resource};

/// Whether this error means that. Those who watch a number (`add_reader`) get the error.
pub(super) fn is_refused(resource: &Resource, error: &std::io::Error) -> bool {
    resource.kind() == Kind::Pipe && error.kind() == std::io::ErrorKind::PermissionDenied
}

impl<B> Readiness<B> {
    /// Reports everything that is wanted of them as ready.
    #[cold]
    pub(super) fn report_unpolled(&mut self, completions: &mut Vec<Completion>) {
        let mut listed = std::mem::take(&mut self.unpolled);
        listed.retain(|id| self.report_ready(*id, completions));
        self.unpolled = listed;
    }

    /// Returns false if nothing is wanted of it any more.
    fn report_ready(&mut self, id: Id, completions: &mut Vec<Completion>) -> bool {
        let Some(pipe) = self.resources.get_mut(id) else {
            return false;
        };
        let wanted = pipe.wanted();
        if wanted.reads() {
            completions.push(Completion::Readable(id));
        }
        if wanted.writes() {
            if pipe.end_sending() {
                self.changed.push(id);
            }
            completions.push(Completion::Sendable(id));
        }
        !wanted.is_none()
    }
}
