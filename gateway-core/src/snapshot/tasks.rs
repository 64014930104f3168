//! `Tasks`: what the plugins of one snapshot do in the background.

use std::sync::{Mutex, PoisonError};

use tokio::task::AbortHandle;

pub(super) type Background = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

/// The background tasks of one snapshot's plugins: started when it is installed, ended with it.
#[derive(Default)]
pub(crate) struct Tasks {
    waiting: Mutex<Vec<Background>>,
    running: Mutex<Vec<AbortHandle>>,
}

impl Tasks {
    pub(super) fn waiting(tasks: Vec<Background>) -> Self {
        Self { waiting: Mutex::new(tasks), running: Mutex::default() }
    }

    /// Starts what waits. A config that is only checked never gets here.
    pub(crate) fn start(&self, runtime: &tokio::runtime::Handle) {
        let waiting: Vec<_> =
            self.waiting.lock().unwrap_or_else(PoisonError::into_inner).drain(..).collect();
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.extend(waiting.into_iter().map(|task| runtime.spawn(task).abort_handle()));
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        for task in self.running.get_mut().unwrap_or_else(PoisonError::into_inner) {
            task.abort();
        }
    }
}
