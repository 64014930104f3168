//! `Side`: one of the two connections that bytes are moved between, and what it can be told about their end.

use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::listener::Wire as ClientWire;
use crate::upstream::Wire as UpstreamWire;

/// How often it is looked whether everything has arrived, and how many times.
const LOOK: Duration = Duration::from_millis(10);
const LOOKS: u32 = 100;

/// A connection that bytes are moved from and to.
pub(super) trait Side: AsyncRead + AsyncWrite + Unpin {
    /// Says that nothing more is written, and not that it was all, where TLS would say so.
    fn end_unsaid(&self);

    /// Whether it broke, which reading would tell.
    fn is_gone(&self) -> bool;
}

/// What lies below it.
pub(super) trait OnTcp {
    fn tcp(&self) -> &TcpStream;
    fn is_secured(&self) -> bool;
}

impl OnTcp for ClientWire {
    fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(tls) => tls.get_ref().0,
        }
    }

    fn is_secured(&self) -> bool {
        matches!(self, Self::Tls(_))
    }
}

impl OnTcp for UpstreamWire {
    fn tcp(&self) -> &TcpStream {
        self.tcp()
    }

    fn is_secured(&self) -> bool {
        self.is_tls()
    }
}

impl<T: OnTcp + AsyncRead + AsyncWrite + Unpin> Side for T {
    fn end_unsaid(&self) {
        // It may be gone, which is noticed elsewhere.
        let _ = SockRef::from(self.tcp()).shutdown(std::net::Shutdown::Write);
    }

    fn is_gone(&self) -> bool {
        let mut asked = [PollFd::new(self.tcp().as_fd(), PollFlags::empty())];
        let told = poll(&mut asked, PollTimeout::ZERO);
        told.is_ok() && asked[0].revents().is_some_and(|told| told.contains(PollFlags::POLLERR))
    }
}

/// Ends a connection so that its other end cannot take what it has heard for all there is. In TLS it is enough that
/// nothing is said (RFC 8446, section 6.1); elsewhere the connection is reset, once what was written has `arrived` or
/// not at all.
pub(super) async fn break_off(side: impl OnTcp, arrived: bool) {
    if side.is_secured() {
        return;
    }
    for _ in 0..LOOKS {
        if !arrived || is_all_taken(side.tcp()) {
            break;
        }
        tokio::time::sleep(LOOK).await;
    }
    let _ = SockRef::from(side.tcp()).set_linger(Some(Duration::ZERO));
}

/// Whether the other end has all that was written.
fn is_all_taken(tcp: &TcpStream) -> bool {
    let mut left = 0;
    // Where nobody can tell, nobody waits.
    outstanding(tcp, &mut left).is_err() || left == 0
}

#[expect(unsafe_code, reason = "no safe call asks for it")]
fn outstanding(tcp: &TcpStream, bytes: &mut i32) -> nix::Result<i32> {
    mod call {
        nix::ioctl_read_bad!(outstanding, nix::libc::TIOCOUTQ, nix::libc::c_int);
    }
    // SAFETY: the descriptor is open for as long as the stream is borrowed, and the kernel writes one `int` to where
    // there is room for one (tcp(7), SIOCOUTQ, which has the number of TIOCOUTQ).
    unsafe { call::outstanding(tcp.as_raw_fd(), bytes) }
}
