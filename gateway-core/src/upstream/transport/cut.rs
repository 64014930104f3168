//! `Cut`: how one HTTP/2 stream is ended from outside, beside others on its connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use pingora::protocols::Digest;
use pingora::protocols::raw_connect::ProxyDigest;
use tokio::sync::Notify;

/// Whether a stream is to end now, and whether it takes what is sent on it.
#[derive(Debug, Default)]
pub(crate) struct Cut {
    cut: AtomicBool,
    full: AtomicBool,
    /// It ends for a reason of its own, which says nothing of its connection.
    alone: AtomicBool,
    told: Notify,
}

impl Cut {
    /// Ends the stream: whoever waits for anything of it is told.
    pub(crate) fn now(&self) {
        self.cut.store(true, Ordering::SeqCst);
        self.told.notify_waiters();
    }

    /// Ends the stream, for a reason that says nothing of its connection.
    pub(crate) fn give_up(&self) {
        self.alone.store(true, Ordering::SeqCst);
        self.now();
    }

    pub(super) fn is_alone(&self) -> bool {
        self.alone.load(Ordering::SeqCst)
    }

    /// Whether nothing more can be sent on it for now.
    pub(crate) fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }

    pub(super) fn set_full(&self, full: bool) {
        self.full.store(full, Ordering::Relaxed);
    }

    /// Comes back when the stream is to end.
    pub(crate) async fn comes(&self) {
        loop {
            // Hears whatever is told from here on, even before it is waited for.
            let told = self.told.notified();
            if self.cut.load(Ordering::SeqCst) {
                return;
            }
            told.await;
        }
    }
}

/// Puts a stream's cut where [`cut_of`] finds it.
pub(super) fn share(cut: &Arc<Cut>) -> Arc<ProxyDigest> {
    let head = pingora_http::ResponseHeader::build(200, Some(0)).expect("200 is a valid status");
    Arc::new(ProxyDigest::new(Box::new(head), Some(Box::new(cut.clone()))))
}

/// How the attempt on this connection is ended, if it is one stream of several.
pub(crate) fn cut_of(digest: Option<&Digest>) -> Option<&Arc<Cut>> {
    digest?.proxy_digest.as_ref()?.user_data.as_ref()?.downcast_ref()
}
