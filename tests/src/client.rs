//! A client of raw bytes: what it sends is what it is given, what it reads is taken apart by the
//! letter of RFC 9112.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

/// How long a read may take before the test fails.
const PATIENCE: Duration = Duration::from_secs(10);

/// A connection to a gateway.
pub struct Client {
    stream: TcpStream,
    unread: Vec<u8>,
}

/// A response, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The status line's version, such as `HTTP/1.1`.
    pub version: String,
    /// The status.
    pub status: u16,
    /// The fields in their order, names as they came.
    pub headers: Vec<(String, String)>,
    /// The body without its framing.
    pub body: Vec<u8>,
}

impl Response {
    /// The first field of this name, whatever its case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers_of(name).into_iter().next()
    }

    /// Every field of this name, whatever its case.
    pub fn headers_of(&self, name: &str) -> Vec<&str> {
        let same = |(held, _): &&(String, String)| held.eq_ignore_ascii_case(name);
        self.headers.iter().filter(same).map(|(_, value)| value.as_str()).collect()
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// It is none.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("the body is not JSON ({error}): {}", self.text()))
    }
}

impl Client {
    /// Connects.
    ///
    /// # Panics
    /// Nobody listens there.
    #[track_caller]
    pub fn connect(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).expect("the gateway accepts"))
    }

    /// Connects, if anybody listens there.
    ///
    /// # Errors
    /// Nobody does.
    pub fn try_connect(address: SocketAddr) -> io::Result<Self> {
        TcpStream::connect(address).map(Self::over)
    }

    /// Connects from this address of the loopback network.
    ///
    /// # Panics
    /// Nobody listens there.
    #[track_caller]
    pub fn connect_from(source: [u8; 4], address: SocketAddr) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket can be made");
        socket.bind(&SocketAddr::from((source, 0)).into()).expect("the address is of loopback");
        socket.connect(&address.into()).expect("the gateway accepts");
        Self::over(socket.into())
    }

    fn over(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
        stream.set_write_timeout(Some(PATIENCE)).expect("a timeout can be set");
        stream.set_nodelay(true).expect("nodelay can be set");
        Self { stream, unread: Vec::new() }
    }

    /// Sends these bytes.
    ///
    /// # Panics
    /// The connection is gone.
    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.stream.write_all(bytes.as_ref()).expect("the gateway takes the bytes");
        self
    }

    /// Sends these bytes as far as the other end takes them.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref())
    }

    /// Says that nothing more will be sent.
    pub fn finish(&mut self) -> &mut Self {
        // A connection that is gone already has nothing to finish.
        let _ = self.stream.shutdown(Shutdown::Write);
        self
    }

    /// Reads one final response to a request that was not HEAD; interim ones are skipped.
    ///
    /// # Panics
    /// There is none, or it is not HTTP.
    #[track_caller]
    pub fn response(&mut self) -> Response {
        loop {
            let response = self.next_response(false);
            if response.status >= 200 {
                return response;
            }
        }
    }

    /// Reads the response to a HEAD request.
    ///
    /// # Panics
    /// There is none, or it is not HTTP.
    #[track_caller]
    pub fn response_to_head(&mut self) -> Response {
        self.next_response(true)
    }

    /// Reads the next response, interim ones too.
    ///
    /// # Panics
    /// There is none, or it is not HTTP.
    #[track_caller]
    pub fn next_response(&mut self, to_head: bool) -> Response {
        match self.try_response(to_head) {
            Ok(response) => response,
            Err(error) => panic!(
                "no response: {error}; read so far: {:?}",
                String::from_utf8_lossy(&self.unread)
            ),
        }
    }

    /// Reads the next response, or says what came instead.
    pub fn try_response(&mut self, to_head: bool) -> io::Result<Response> {
        let head = self.read_until(b"\r\n\r\n")?;
        let head = String::from_utf8_lossy(&head).into_owned();
        let mut lines = head.split("\r\n").filter(|line| !line.is_empty());
        let status_line = lines.next().unwrap_or_default().to_owned();
        let mut parts = status_line.splitn(3, ' ');
        let version = parts.next().unwrap_or_default().to_owned();
        let status = parts.next().and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| io::Error::other(format!("not a response: {head:?}")))?;
        let headers: Vec<(String, String)> = lines
            .map(|line| {
                let (name, value) = line.split_once(':').unwrap_or((line, ""));
                (name.to_owned(), value.trim().to_owned())
            })
            .collect();
        let mut response = Response { version, status, headers, body: Vec::new() };
        let bodiless = to_head || status < 200 || status == 204 || status == 304;
        if !bodiless {
            response.body = self.body(&response)?;
        }
        Ok(response)
    }

    /// Reads what comes until the other end closes.
    pub fn rest(&mut self) -> Vec<u8> {
        // What was read before an error still counts.
        let _ = self.stream.read_to_end(&mut self.unread);
        std::mem::take(&mut self.unread)
    }

    /// Whether the other end closes, and nothing is left to read. Silence is no close.
    pub fn is_closed(&mut self) -> bool {
        use io::ErrorKind::{TimedOut, WouldBlock};
        let end = self.stream.read_to_end(&mut self.unread);
        let silent = end.is_err_and(|error| matches!(error.kind(), WouldBlock | TimedOut));
        !silent && self.unread.is_empty()
    }

    /// Whether nothing comes and nothing is closed for this long.
    pub fn is_silent_for(&mut self, time: Duration) -> bool {
        self.stream.set_read_timeout(Some(time)).expect("a timeout can be set");
        let mut byte = [0; 1];
        let silent = match self.stream.read(&mut byte) {
            Ok(read) => {
                self.unread.extend_from_slice(&byte[..read]);
                false
            }
            Err(error) => {
                matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
            }
        };
        self.stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
        silent
    }

    fn body(&mut self, response: &Response) -> io::Result<Vec<u8>> {
        if response.headers_of("transfer-encoding").iter().any(|coding| coding.contains("chunked"))
        {
            return self.chunks();
        }
        match response.header("content-length") {
            Some(length) => {
                let length = length.parse().map_err(io::Error::other)?;
                self.read_exactly(length)
            }
            None => Ok(self.rest()),
        }
    }

    fn chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.read_until(b"\r\n")?;
            let size = String::from_utf8_lossy(&line);
            let size = size.trim().split(';').next().unwrap_or_default();
            let size = usize::from_str_radix(size, 16).map_err(io::Error::other)?;
            if size == 0 {
                while self.read_until(b"\r\n")? != b"\r\n" {}
                return Ok(body);
            }
            body.extend(self.read_exactly(size)?);
            if self.read_exactly(2)? != b"\r\n" {
                return Err(io::Error::other("a chunk does not end where it should"));
            }
        }
    }

    fn read_until(&mut self, end: &[u8]) -> io::Result<Vec<u8>> {
        loop {
            let found = self.unread.windows(end.len()).position(|window| window == end);
            if let Some(position) = found {
                return Ok(self.unread.drain(..position + end.len()).collect());
            }
            self.read_more()?;
        }
    }

    fn read_exactly(&mut self, length: usize) -> io::Result<Vec<u8>> {
        while self.unread.len() < length {
            self.read_more()?;
        }
        Ok(self.unread.drain(..length).collect())
    }

    fn read_more(&mut self) -> io::Result<()> {
        let mut buffer = [0; 16 * 1024];
        match self.stream.read(&mut buffer)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            read => {
                self.unread.extend_from_slice(&buffer[..read]);
                Ok(())
            }
        }
    }
}
