//! Moves bytes both ways between two connections.
//!
//! What is read goes through one buffer of the thread, so that a connection on which nothing moves holds none. What the
//! other end does not take at once is kept, and nothing more is read before it has: at most one buffer a direction.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::ReadBuf;

use super::side::Side;
use crate::listener::Alarm;
use crate::snapshot::Patience;

/// The most that is read at a time.
const PIECE: usize = 64 * 1024;
/// How often a direction reads before others have their turn.
const TURNS: usize = 16;
/// How often it is looked whether ends are still there that are not read from.
const LOOK: Duration = Duration::from_secs(1);

thread_local! {
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; PIECE].into());
}

/// One of the two ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Client,
    Upstream,
}

/// How it came to an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// Both said that nothing more comes; this one said so first.
    Closed(End),
    /// This one is gone without having said so.
    Gone(End),
    /// Nothing moved for too long.
    Idle {
        /// All that came was passed on.
        whole: bool,
    },
}

/// One direction.
#[derive(Default)]
struct Way {
    /// What was read and not taken, from `at` on.
    kept: Vec<u8>,
    at: usize,
    /// Something was written that may not be on its way yet.
    unflushed: bool,
    /// Something was written since this was last looked at.
    written: bool,
    /// Nothing more is read.
    over: Option<Over>,
    /// Where it comes from was told of an end that was not said, at which many break off.
    provoked: bool,
    state: State,
}

/// Why nothing more is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Over {
    /// It was said to be all.
    Said,
    /// It ended without a word, where TLS has one for it.
    Unsaid,
    /// It broke.
    Broken,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Open,
    /// All that came is passed on, and that it was all.
    Whole,
    /// It cannot be read from any more. All that came is passed on.
    SourceGone,
    /// It cannot be written to any more.
    SinkGone,
}

/// Moves bytes until the connections end. `first` was read of the client already. `moved` is told how many bytes went
/// up and how many down.
pub(super) async fn carry<C: Side, U: Side>(
    client: &mut C,
    upstream: &mut U,
    first: Vec<u8>,
    patience: Patience,
    mut moved: impl FnMut(u64, u64),
) -> Ended {
    let mut up = Way { kept: first, ..Way::default() };
    let mut down = Way::default();
    let mut ended = None;
    let mut last = Instant::now();
    let mut alarm = Alarm::new();
    let mut look = Alarm::new();
    let mut looked = last;
    let mut was_done = false;
    poll_fn(|cx| {
        loop {
            let (sent, received) = BUFFER.with_borrow_mut(|buffer| {
                let sent = up.go(cx, client, upstream, buffer);
                down.provoked = up.has_ended_unsaid();
                if up.state == State::Whole {
                    ended.get_or_insert(End::Client);
                }
                (sent, down.go(cx, upstream, client, buffer))
            });
            if down.state == State::Whole {
                ended.get_or_insert(End::Upstream);
            }
            up.provoked = down.has_ended_unsaid();
            if sent + received > 0 {
                moved(sent, received);
            }
            if std::mem::take(&mut up.written) | std::mem::take(&mut down.written) {
                last = Instant::now();
            }
            if let Some(ended) = outcome(up.state, down.state, ended) {
                return Poll::Ready(ended);
            }
            let one_is_done = [&up, &down].iter().any(|way| way.is_done());
            if one_is_done != was_done {
                // What was quiet before may still be answered.
                (was_done, last) = (true, Instant::now());
            }
            let limit = if one_is_done { patience.half_closed } else { patience.idle };
            if alarm.poll(last + limit.min(patience.idle), cx).is_ready() {
                return Poll::Ready(given_up(&up, &down));
            }
            if up.is_read() && down.is_read() {
                return Poll::Pending;
            }
            // Who is not read from may be gone without anybody hearing of it.
            if look.poll(looked + LOOK, cx).is_pending() {
                return Poll::Pending;
            }
            looked = Instant::now();
            up.look(upstream);
            down.look(client);
        }
    })
    .await
}

fn outcome(up: State, down: State, first: Option<End>) -> Option<Ended> {
    use State::{Open, SinkGone, SourceGone, Whole};
    Some(match (up, down) {
        (SourceGone, _) => Ended::Gone(End::Client),
        (_, SourceGone) => Ended::Gone(End::Upstream),
        // Who takes nothing more may have said something before, which is still to be read.
        (SinkGone, Open) | (Open, SinkGone) | (Whole, Open) | (Open, Whole | Open) => return None,
        (SinkGone, _) => Ended::Gone(End::Upstream),
        (_, SinkGone) => Ended::Gone(End::Client),
        (Whole, Whole) => Ended::Closed(first.unwrap_or(End::Client)),
    })
}

/// What it means that nothing moved for too long.
fn given_up(up: &Way, down: &Way) -> Ended {
    let is_gone =
        |from: &Way, to: &Way| from.over == Some(Over::Broken) || to.state == State::SinkGone;
    if is_gone(up, down) {
        Ended::Gone(End::Client)
    } else if is_gone(down, up) {
        Ended::Gone(End::Upstream)
    } else {
        Ended::Idle { whole: up.kept.is_empty() && down.kept.is_empty() }
    }
}

impl Way {
    /// Moves what can be moved now. Returns how many bytes were taken from where they come from.
    fn go<F: Side, T: Side>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut F,
        to: &mut T,
        buffer: &mut [u8],
    ) -> u64 {
        let mut moved = 0;
        for _ in 0..TURNS {
            if self.state != State::Open || !self.deliver(cx, to) {
                return moved;
            }
            let mut read = ReadBuf::new(buffer);
            match Pin::new(&mut *from).poll_read(cx, &mut read) {
                Poll::Ready(Ok(())) if !read.filled().is_empty() => {
                    moved += read.filled().len() as u64;
                    self.pass(cx, to, read.filled());
                }
                Poll::Ready(outcome) => {
                    self.over = Some(match outcome {
                        Ok(()) => Over::Said,
                        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Over::Unsaid,
                        Err(_) if self.provoked => Over::Unsaid,
                        Err(_) => Over::Broken,
                    });
                }
                Poll::Pending => {
                    self.flush(cx, to);
                    return moved;
                }
            }
        }
        // There is more; others come first.
        cx.waker().wake_by_ref();
        moved
    }

    /// Writes what is kept, and the end behind it. Whether there is more to read.
    fn deliver<T: Side>(&mut self, cx: &mut Context<'_>, to: &mut T) -> bool {
        if !self.kept.is_empty() {
            let kept = std::mem::take(&mut self.kept);
            let at = std::mem::take(&mut self.at);
            let written = self.write(cx, to, &kept[at..]);
            if self.state != State::Open {
                return false;
            }
            if at + written < kept.len() {
                (self.kept, self.at) = (kept, at + written);
                return false;
            }
        }
        let Some(over) = self.over else { return true };
        let told = match over {
            Over::Said => Pin::new(to).poll_shutdown(cx),
            Over::Unsaid => Pin::new(&mut *to).poll_flush(cx).map_ok(|()| to.end_unsaid()),
            Over::Broken => Pin::new(to).poll_flush(cx),
        };
        self.state = match told {
            Poll::Pending => return false,
            // Whoever it would be told to does not matter any more.
            Poll::Ready(_) if over == Over::Broken => State::SourceGone,
            Poll::Ready(Ok(())) => State::Whole,
            // It has ended, too, and knows already.
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::NotConnected => State::Whole,
            Poll::Ready(Err(_)) => State::SinkGone,
        };
        false
    }

    /// Writes what was just read, and keeps what is not taken.
    fn pass<T: Side>(&mut self, cx: &mut Context<'_>, to: &mut T, bytes: &[u8]) {
        let written = self.write(cx, to, bytes);
        if self.state == State::Open && written < bytes.len() {
            self.kept = bytes[written..].to_vec();
        }
    }

    fn write<T: Side>(&mut self, cx: &mut Context<'_>, to: &mut T, bytes: &[u8]) -> usize {
        let mut written = 0;
        while written < bytes.len() {
            match Pin::new(&mut *to).poll_write(cx, &bytes[written..]) {
                Poll::Ready(Ok(0) | Err(_)) => {
                    self.state = State::SinkGone;
                    break;
                }
                Poll::Ready(Ok(more)) => {
                    written += more;
                    (self.unflushed, self.written) = (true, true);
                }
                Poll::Pending => break,
            }
        }
        written
    }

    fn flush<T: Side>(&mut self, cx: &mut Context<'_>, to: &mut T) {
        if !self.unflushed {
            return;
        }
        match Pin::new(to).poll_flush(cx) {
            Poll::Ready(Ok(())) => self.unflushed = false,
            Poll::Ready(Err(_)) => self.state = State::SinkGone,
            Poll::Pending => {}
        }
    }

    /// Notes that nobody is there to take anything.
    fn look<T: Side>(&mut self, to: &T) {
        if self.state == State::Open && to.is_gone() {
            self.state = State::SinkGone;
        }
    }

    /// Whether what comes is read, and it would be noticed if that broke.
    fn is_read(&self) -> bool {
        self.state == State::Open && self.over.is_none() && self.kept.is_empty()
    }

    fn has_ended_unsaid(&self) -> bool {
        self.state == State::Whole && self.over == Some(Over::Unsaid)
    }

    /// Whether nothing more can move, or nothing more than what is kept.
    fn is_done(&self) -> bool {
        self.state != State::Open || self.over == Some(Over::Broken)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    impl Side for DuplexStream {
        fn end_unsaid(&self) {}

        fn is_gone(&self) -> bool {
            false
        }
    }

    /// Moves between what comes back as its two far ends.
    fn carried(
        room: usize,
        first: &[u8],
        idle: Duration,
    ) -> (DuplexStream, DuplexStream, tokio::task::JoinHandle<(Ended, u64, u64)>) {
        let ((client, mut near), (mut far, server)) = (duplex(room), duplex(room));
        let first = first.to_vec();
        let carrying = tokio::spawn(async move {
            let (mut up, mut down) = (0, 0);
            let moved = |more_up, more_down| (up, down) = (up + more_up, down + more_down);
            let patience = Patience { idle, half_closed: LONG };
            let ended = carry(&mut near, &mut far, first, patience, moved).await;
            (ended, up, down)
        });
        (client, server, carrying)
    }

    #[tokio::test]
    async fn what_is_not_taken_is_kept_and_no_more_is_read() {
        let (mut client, mut server, carrying) = carried(64, b"first", LONG);
        let sent: Vec<u8> = (0..=255).cycle().take(300_000).collect();
        let expected = [b"first".to_vec(), sent.clone()].concat();
        let sending = tokio::spawn(async move {
            client.write_all(&sent).await.unwrap();
            client.shutdown().await.unwrap();
            let mut answer = Vec::new();
            client.read_to_end(&mut answer).await.unwrap();
            answer
        });
        let mut heard = Vec::new();
        server.read_to_end(&mut heard).await.unwrap();
        assert!(heard == expected);
        server.write_all(b"answer").await.unwrap();
        drop(server);
        assert_eq!(sending.await.unwrap(), b"answer");
        assert_eq!(carrying.await.unwrap(), (Ended::Closed(End::Client), 300_000, 6));
    }

    #[tokio::test]
    async fn who_is_gone_is_told_from_who_closes() {
        // The far end of a duplex that is dropped cannot be written to.
        let (mut client, mut server, carrying) = carried(1024, b"", LONG);
        server.write_all(b"last words").await.unwrap();
        drop(server);
        client.write_all(&[0; 100]).await.unwrap();
        let mut heard = Vec::new();
        client.read_to_end(&mut heard).await.unwrap();
        assert_eq!(heard, b"last words");
        assert_eq!(carrying.await.unwrap().0, Ended::Gone(End::Upstream));
    }

    #[tokio::test]
    async fn who_says_all_after_a_long_silence_is_still_answered() {
        let ((mut client, mut near), (mut far, mut server)) = (duplex(64), duplex(64));
        let patience = Patience { idle: LONG, half_closed: Duration::from_millis(300) };
        let carrying = tokio::spawn(async move {
            carry(&mut near, &mut far, Vec::new(), patience, |_, _| {}).await
        });
        tokio::time::sleep(Duration::from_millis(400)).await;
        client.shutdown().await.unwrap();
        assert_eq!(server.read(&mut [0]).await.unwrap(), 0);
        tokio::time::sleep(Duration::from_millis(150)).await;
        server.write_all(b"late").await.unwrap();
        drop(server);
        let mut heard = Vec::new();
        client.read_to_end(&mut heard).await.unwrap();
        assert_eq!(heard, b"late");
        assert_eq!(carrying.await.unwrap(), Ended::Closed(End::Client));
    }

    #[tokio::test]
    async fn silence_ends_it_and_a_byte_now_and_then_does_not() {
        let (mut client, mut server, carrying) = carried(1024, b"", Duration::from_millis(200));
        let began = Instant::now();
        for _ in 0..6 {
            tokio::time::sleep(Duration::from_millis(80)).await;
            client.write_all(b"x").await.unwrap();
            server.read_exact(&mut [0]).await.unwrap();
        }
        assert_eq!(carrying.await.unwrap(), (Ended::Idle { whole: true }, 6, 0));
        assert!(began.elapsed() >= Duration::from_millis(680), "{:?}", began.elapsed());
    }
}
