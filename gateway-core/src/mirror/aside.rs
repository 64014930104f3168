//! The thread of all mirrors: what copies take of the machine is not taken from those that serve.

use std::sync::OnceLock;

use tokio::runtime::{Builder, Runtime};

/// Runs what is sent and compared. The thread begins with the first copy.
#[derive(Default)]
pub(super) struct Aside(OnceLock<Option<Runtime>>);

/// How much the threads yield to others of the machine: a process has 0, the most is 19 (`nice(2)`).
const NICE: i32 = 10;

impl Aside {
    /// Runs a task on a thread of its own; `false` where the system gives none.
    pub(super) fn run(&self, task: impl Future<Output = ()> + Send + 'static) -> bool {
        let runtime = self.0.get_or_init(|| {
            let made = Builder::new_multi_thread()
                .worker_threads(1)
                .max_blocking_threads(1)
                .thread_name("gateway-mirror")
                .on_thread_start(|| {
                    // For Linux a thread has a niceness of its own. Without it copies are as important as all else.
                    let _ = rustix::process::setpriority_process(None, NICE);
                })
                .enable_all()
                .build();
            made.inspect_err(|error| tracing::error!(%error, "no thread for mirrors")).ok()
        });
        runtime.as_ref().map(|runtime| runtime.spawn(task)).is_some()
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        if let Some(Some(runtime)) = self.0.take() {
            // It may be a task of its own that drops it.
            runtime.shutdown_background();
        }
    }
}
