//! An upstream that does as it is told: refuses, hangs, resets, truncates, drips, answers.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use socket2::{Domain, Socket, Type};

/// How long an upstream waits for a request before its connection ends.
const PATIENCE: Duration = Duration::from_secs(20);

/// An upstream on a port of its own. Its threads end with the test's process.
pub struct Origin {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<String>>>,
    connections: Arc<Mutex<usize>>,
}

/// One request at an origin, to be answered.
pub struct Exchange {
    stream: TcpStream,
    /// The request's head, as it came.
    pub head: String,
    /// The request's body without its framing.
    pub body: Vec<u8>,
    /// How many requests this origin has seen, this one included.
    pub number: usize,
}

impl Origin {
    /// An origin that answers each request, on connections that stay open, with these bytes.
    pub fn answering(response: impl Into<Vec<u8>>) -> Self {
        let response = response.into();
        Self::scripted(move |exchange| exchange.write(&response))
    }

    /// An origin that answers 200 with this text, on connections that stay open.
    pub fn saying(text: &str) -> Self {
        Self::answering(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}", text.len()))
    }

    /// The same at this address, which may not be free.
    pub fn saying_at(address: SocketAddr, text: &str) -> io::Result<Self> {
        let response = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}", text.len());
        let listener = TcpListener::bind(address)?;
        Ok(Self::on(listener, move |exchange| exchange.write(&response)))
    }

    /// An origin that plays this script at each request. Where it returns an error the connection
    /// ends.
    pub fn scripted(
        script: impl Fn(&mut Exchange) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").expect("a port is free"), script)
    }

    fn on(
        listener: TcpListener,
        script: impl Fn(&mut Exchange) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let address = listener.local_addr().expect("a bound socket has an address");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let connections = Arc::new(Mutex::new(0));
        let (log, count, script) = (seen.clone(), connections.clone(), Arc::new(script));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                *count.lock().unwrap_or_else(PoisonError::into_inner) += 1;
                let (log, script) = (log.clone(), script.clone());
                // A connection's end, however it comes, is part of the script.
                thread::spawn(move || serve(stream, &log, &*script));
            }
        });
        Self { address, seen, connections }
    }

    /// An address at which nobody listens. It stays taken as long as the test's process lives, so
    /// that no port 0 becomes it; who asks for it by number, as a gateway does, may still have it.
    pub fn nobody() -> SocketAddr {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket can be made");
        socket.set_reuse_address(true).expect("an option can be set");
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        socket.bind(&any.into()).expect("a port is free");
        let address = socket.local_addr().ok().and_then(|address| address.as_socket());
        std::mem::forget(socket);
        address.expect("a bound socket has an address")
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The heads of the requests it has seen.
    pub fn requests(&self) -> Vec<String> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The head of the last request it has seen.
    ///
    /// # Panics
    /// It has seen none.
    #[track_caller]
    pub fn last_request(&self) -> String {
        self.requests().pop().expect("the origin has seen a request")
    }

    /// The values of every field of this name in the last request it has seen, whatever its case.
    ///
    /// # Panics
    /// It has seen none.
    #[track_caller]
    pub fn last_fields(&self, name: &str) -> Vec<String> {
        let head = self.last_request();
        let fields = head.split("\r\n").skip(1).filter_map(|line| line.split_once(':'));
        let named = fields.filter(|(held, _)| held.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.trim().to_owned()).collect()
    }

    /// How many connections it has accepted.
    pub fn connections(&self) -> usize {
        *self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Exchange {
    /// Sends these bytes.
    ///
    /// # Errors
    /// The gateway has closed.
    pub fn write(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref())
    }

    /// Does nothing for a while.
    pub fn pause(&self, time: Duration) {
        thread::sleep(time);
    }

    /// Reads until the gateway closes the connection.
    ///
    /// # Errors
    /// Always: the connection is gone, or it was not within some seconds.
    pub fn await_close(&mut self) -> io::Result<()> {
        let mut buffer = [0; 1024];
        while self.stream.read(&mut buffer)? > 0 {}
        Err(io::ErrorKind::ConnectionAborted.into())
    }

    /// Ends the connection with a reset instead of an orderly close.
    ///
    /// # Errors
    /// Always: the connection is gone.
    pub fn reset(&mut self) -> io::Result<()> {
        socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO))?;
        Err(io::ErrorKind::ConnectionReset.into())
    }

    /// Ends the connection.
    ///
    /// # Errors
    /// Always: the connection is gone.
    pub fn close(&mut self) -> io::Result<()> {
        Err(io::ErrorKind::ConnectionAborted.into())
    }

    /// The first field of this name in the request, whatever its case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (held, value) = line.split_once(':')?;
            held.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

fn serve(
    stream: TcpStream,
    log: &Mutex<Vec<String>>,
    script: &(dyn Fn(&mut Exchange) -> io::Result<()> + Send + Sync),
) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    let mut unread = Vec::new();
    loop {
        let head = read_head(&stream, &mut unread)?;
        let body = read_body(&stream, &head, &mut unread)?;
        let number = {
            let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
            log.push(head.clone());
            log.len()
        };
        script(&mut Exchange { stream: stream.try_clone()?, head, body, number })?;
    }
}

fn read_head(stream: &TcpStream, unread: &mut Vec<u8>) -> io::Result<String> {
    loop {
        if let Some(end) = unread.windows(4).position(|window| window == b"\r\n\r\n") {
            let head: Vec<u8> = unread.drain(..end + 4).collect();
            return Ok(String::from_utf8_lossy(&head).into_owned());
        }
        more(stream, unread)?;
    }
}

fn read_body(stream: &TcpStream, head: &str, unread: &mut Vec<u8>) -> io::Result<Vec<u8>> {
    let lower = head.to_ascii_lowercase();
    let field = |name: &str| {
        let line = lower.lines().find(|line| line.starts_with(name))?;
        Some(line[name.len()..].trim().to_owned())
    };
    if let Some(length) = field("content-length:") {
        let length = length.parse().map_err(io::Error::other)?;
        while unread.len() < length {
            more(stream, unread)?;
        }
        return Ok(unread.drain(..length).collect());
    }
    if field("transfer-encoding:").is_none() {
        return Ok(Vec::new());
    }
    let mut body = Vec::new();
    loop {
        let line = line(stream, unread)?;
        let size = usize::from_str_radix(line.trim(), 16).map_err(io::Error::other)?;
        while unread.len() < size + 2 {
            more(stream, unread)?;
        }
        body.extend(unread.drain(..size));
        unread.drain(..2);
        if size == 0 {
            return Ok(body);
        }
    }
}

fn line(stream: &TcpStream, unread: &mut Vec<u8>) -> io::Result<String> {
    loop {
        if let Some(end) = unread.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = unread.drain(..=end).collect();
            return Ok(String::from_utf8_lossy(&line).into_owned());
        }
        more(stream, unread)?;
    }
}

fn more(mut stream: &TcpStream, unread: &mut Vec<u8>) -> io::Result<()> {
    let mut buffer = [0; 16 * 1024];
    match stream.read(&mut buffer)? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        read => {
            unread.extend_from_slice(&buffer[..read]);
            Ok(())
        }
    }
}
