//! JSON on its way (RFC 8259): one document, or several after each other. What is not redacted passes as it stands,
//! byte by byte; what stands under a secret name, or looks like a secret, never does.

use super::Unreadable;
use super::rules::{Action, Rules, Step};

/// How deep a document may nest.
const DEEPEST: usize = 512;
/// A single string or number that is longer is not held.
const LONGEST: usize = 4 << 20;

/// JSON on its way.
pub(super) struct Json {
    held: Vec<u8>,
    frames: Vec<Frame>,
    expects: Expects,
    /// What becomes of the value of the name that came last.
    value: Option<Action>,
    /// Nothing is written until so many frames are left.
    skips: Option<usize>,
    /// The same, for the value that comes next.
    skips_value: bool,
    /// Paths that the names so far are on the way of, for the value that comes next.
    ways: u64,
    tokens: Vec<Token>,
    /// Where in what is held a token has begun that has not ended.
    open: Open,
}

/// A token that has not ended: where it began, and how far it was looked through, which is not done again.
#[derive(Clone, Copy, Debug, Default)]
struct Open {
    start: usize,
    seen: usize,
    escaped: bool,
}

struct Frame {
    object: bool,
    /// Paths that lead into it.
    ways: u64,
    /// How many names are on the way to it.
    depth: usize,
    /// A member of it was written.
    written: bool,
    /// A comma is owed.
    comma: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expects {
    Value,
    /// A value, or the end of the list.
    FirstItem,
    /// A name, or the end of the object.
    FirstName,
    Name,
    Colon,
    /// A comma, or the end.
    Comma,
}

#[derive(Clone, Copy)]
struct Token {
    start: usize,
    end: usize,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Mark(u8),
    /// With the quotes; whether it has escapes.
    String(bool),
    Other,
}

impl Default for Json {
    fn default() -> Self {
        Self {
            held: Vec::new(),
            frames: Vec::new(),
            expects: Expects::Value,
            value: None,
            skips: None,
            skips_value: false,
            ways: u64::MAX,
            tokens: Vec::new(),
            open: Open::default(),
        }
    }
}

impl Json {
    /// Takes a chunk, and writes as much as can be told to be clean.
    ///
    /// # Errors
    /// It is no JSON, or none that can be held.
    pub(super) fn push(
        &mut self,
        rules: &Rules,
        chunk: &[u8],
        last: bool,
        out: &mut Vec<u8>,
    ) -> Result<(), Unreadable> {
        self.held.extend_from_slice(chunk);
        let text = std::mem::take(&mut self.held);
        let mut tokens = std::mem::take(&mut self.tokens);
        tokens.clear();
        let cut = split(&text, last, &mut self.open, &mut tokens)?;
        if text.len() - cut > LONGEST {
            return Err(Unreadable::Because("a value of it is too long"));
        }
        let cut = self.pass(rules, &text[..cut], &tokens, out)?;
        if last && !(self.frames.is_empty() && self.expects == Expects::Value) {
            return Err(Unreadable::Because("it is cut short"));
        }
        self.held = text;
        self.held.drain(..cut);
        self.open.start = self.open.start.saturating_sub(cut);
        self.open.seen = self.open.seen.saturating_sub(cut);
        self.tokens = tokens;
        Ok(())
    }

    /// Returns how much has been seen to.
    fn pass(
        &mut self,
        rules: &Rules,
        text: &[u8],
        tokens: &[Token],
        out: &mut Vec<u8>,
    ) -> Result<usize, Unreadable> {
        let removes = rules.removes_keys();
        let hits = rules.find(text);
        let mut hits = &hits[..];
        let mut done = 0;
        for token in tokens {
            let Token { start, end, kind } = *token;
            while hits.first().is_some_and(|hit| hit.end <= start) {
                hits = &hits[1..];
            }
            // What is left out takes everything before its end along.
            macro_rules! leave_out {
                () => {{
                    done = end;
                    continue;
                }};
            }
            let is_left_out = self.skips.is_some() || self.skips_value;
            match (kind, self.expects) {
                (Kind::Mark(b'{'), Expects::Value | Expects::FirstItem) => {
                    let left_out = self.open(true, text, start, &mut done, rules, out)?;
                    self.expects = Expects::FirstName;
                    if left_out {
                        leave_out!();
                    }
                }
                (Kind::Mark(b'['), Expects::Value | Expects::FirstItem) => {
                    let left_out = self.open(false, text, start, &mut done, rules, out)?;
                    self.expects = Expects::FirstItem;
                    if left_out {
                        leave_out!();
                    }
                }
                (Kind::Mark(mark @ (b'}' | b']')), expects) => {
                    let frame = self.frames.last().ok_or(WRONG)?;
                    let first = if frame.object { Expects::FirstName } else { Expects::FirstItem };
                    if frame.object != (mark == b'}')
                        || (expects != Expects::Comma && expects != first)
                    {
                        return Err(WRONG);
                    }
                    self.frames.pop();
                    self.ended();
                    if self.skips.is_some() {
                        if self.skips == Some(self.frames.len()) {
                            self.skips = None;
                        }
                        leave_out!();
                    }
                }
                (Kind::Mark(b','), Expects::Comma) => {
                    let frame = self.frames.last_mut().ok_or(WRONG)?;
                    self.expects = if frame.object { Expects::Name } else { Expects::Value };
                    self.ways = frame.ways;
                    if is_left_out {
                        leave_out!();
                    }
                    if removes && frame.object {
                        // Whether it is needed is known when it is known what follows.
                        out.extend_from_slice(&text[done..start]);
                        frame.comma = true;
                        leave_out!();
                    }
                }
                (Kind::Mark(b':'), Expects::Colon) => {
                    self.expects = Expects::Value;
                    if is_left_out {
                        leave_out!();
                    }
                }
                (Kind::String(escaped), Expects::FirstName | Expects::Name) => {
                    self.expects = Expects::Colon;
                    if is_left_out {
                        leave_out!();
                    }
                    let name = &text[start + 1..end - 1];
                    let decoded = escaped.then(|| unescaped(&text[start..end])).transpose()?;
                    let action = self.name(rules, decoded.as_deref().unwrap_or(name));
                    let frame = self.frames.last_mut().ok_or(WRONG)?;
                    if action == Some(Action::Remove) {
                        if !frame.comma {
                            out.extend_from_slice(&text[done..start]);
                        }
                        self.skips_value = true;
                        leave_out!();
                    }
                    self.value = action;
                    if std::mem::take(&mut frame.comma) && frame.written {
                        out.push(b',');
                    }
                    frame.written = true;
                    if is_hit(hits, end) || decoded.is_some_and(|text| rules.clean(&text).is_some())
                    {
                        out.extend_from_slice(&text[done..=start]);
                        self.replace(rules, text, *token, hits, escaped, out)?;
                        out.push(b'"');
                        leave_out!();
                    }
                }
                (Kind::String(escaped), Expects::Value | Expects::FirstItem) => {
                    self.ended();
                    if is_left_out {
                        self.skips_value = false;
                        leave_out!();
                    }
                    let action = self.value.take();
                    if action.is_none() && !is_hit(hits, end) && !escaped {
                        continue;
                    }
                    let inside = &text[start + 1..end - 1];
                    let Some(action) = action else {
                        out.extend_from_slice(&text[done..=start]);
                        self.replace(rules, text, *token, hits, escaped, out)?;
                        out.push(b'"');
                        leave_out!();
                    };
                    out.extend_from_slice(&text[done..=start]);
                    if !inside.is_empty() {
                        rules.write(action, inside, out);
                    }
                    out.push(b'"');
                    leave_out!();
                }
                (Kind::Other, Expects::Value | Expects::FirstItem) => {
                    self.ended();
                    if is_left_out {
                        self.skips_value = false;
                        leave_out!();
                    }
                    let word = &text[start..end];
                    if !is_literal(word) {
                        return Err(WRONG);
                    }
                    let action = self.value.take().filter(|_| word != b"null");
                    let action = action.or_else(|| {
                        hits.iter()
                            .find(|hit| hit.start < end && hit.end > start)
                            .map(|hit| hit.action)
                    });
                    if let Some(action) = action {
                        out.extend_from_slice(&text[done..start]);
                        out.push(b'"');
                        rules.write(action, word, out);
                        out.push(b'"');
                        leave_out!();
                    }
                }
                _ => return Err(WRONG),
            }
        }
        if self.skips.is_some() || self.skips_value {
            return Ok(text.len());
        }
        if self.frames.last().is_some_and(|frame| frame.comma) {
            // What stands behind the comma goes with it.
            return Ok(done);
        }
        out.extend_from_slice(&text[done..]);
        Ok(text.len())
    }

    /// An object or a list begins. True if it is left out.
    fn open(
        &mut self,
        object: bool,
        text: &[u8],
        start: usize,
        done: &mut usize,
        rules: &Rules,
        out: &mut Vec<u8>,
    ) -> Result<bool, Unreadable> {
        if self.frames.len() >= DEEPEST {
            return Err(Unreadable::Because("it nests too deep"));
        }
        let depth = self.frames.last().map_or(0, |frame| frame.depth + usize::from(frame.object));
        let level = self.frames.len();
        self.frames.push(Frame { object, ways: self.ways, depth, written: false, comma: false });
        if self.skips.is_some() {
            return Ok(true);
        }
        if std::mem::take(&mut self.skips_value) {
            self.skips = Some(level);
            return Ok(true);
        }
        if let Some(action) = self.value.take() {
            // Whatever is in it: its parts may tell as much as the whole.
            out.extend_from_slice(&text[*done..start]);
            out.push(b'"');
            let action = if action == Action::Hash { Action::Mask } else { action };
            rules.write(action, &[], out);
            out.push(b'"');
            self.skips = Some(level);
            return Ok(true);
        }
        Ok(false)
    }

    /// A value has ended.
    fn ended(&mut self) {
        match self.frames.last() {
            Some(frame) => {
                self.expects = Expects::Comma;
                self.ways = frame.ways;
            }
            None => {
                self.expects = Expects::Value;
                self.ways = u64::MAX;
            }
        }
    }

    /// What becomes of the value of this name; notes which paths it is on.
    fn name(&mut self, rules: &Rules, name: &[u8]) -> Option<Action> {
        let frame = self.frames.last()?;
        let mut found = None;
        if !rules.paths.is_empty() {
            let mut ways = 0;
            for (place, (steps, action)) in rules.paths.iter().enumerate() {
                let is_on = frame.ways & (1 << place) != 0;
                let fits = steps.get(frame.depth).is_some_and(|step| match step {
                    Step::Any => true,
                    Step::Name(own) => own.as_bytes() == name,
                });
                if is_on && fits {
                    if frame.depth + 1 == steps.len() {
                        found = found.or(Some(*action));
                    } else {
                        ways |= 1 << place;
                    }
                }
            }
            self.ways = ways;
        }
        found.or_else(|| rules.key(name))
    }

    /// Writes the inside of a string without its secrets.
    fn replace(
        &self,
        rules: &Rules,
        text: &[u8],
        token: Token,
        hits: &[super::rules::Hit],
        escaped: bool,
        out: &mut Vec<u8>,
    ) -> Result<(), Unreadable> {
        let (start, end) = (token.start + 1, token.end - 1);
        if escaped && rules.clean(&unescaped(&text[token.start..token.end])?).is_some() {
            // Where in the text it stands cannot be told; all of it goes.
            rules.write(Action::Mask, &[], out);
            return Ok(());
        }
        if hits.iter().any(|hit| hit.start < token.end && hit.end > end) {
            // It goes on beyond the string, so it was not looked for behind that.
            let own = rules.find(&text[start..end]);
            rules.write_clean(&text[start..end], 0, end - start, &own, out);
            return Ok(());
        }
        rules.write_clean(text, start, end, hits, out);
        Ok(())
    }
}

const WRONG: Unreadable = Unreadable::Because("it is no JSON");

fn is_hit(hits: &[super::rules::Hit], end: usize) -> bool {
    hits.first().is_some_and(|hit| hit.start < end)
}

/// The text that a string stands for.
fn unescaped(quoted: &[u8]) -> Result<Vec<u8>, Unreadable> {
    let text: std::borrow::Cow<'_, str> = String::from_utf8_lossy(quoted);
    match serde_json::from_str::<String>(&text) {
        Ok(text) => Ok(text.into_bytes()),
        Err(_) => Err(WRONG),
    }
}

/// Whether this is a number, or `true`, `false`, `null`.
fn is_literal(word: &[u8]) -> bool {
    match word.first() {
        Some(b'-' | b'0'..=b'9') => {
            word.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E'))
        }
        _ => matches!(word, b"true" | b"false" | b"null"),
    }
}

/// Splits a text into tokens. Returns where what has not ended yet begins; that is not looked through twice.
fn split(
    text: &[u8],
    last: bool,
    open: &mut Open,
    tokens: &mut Vec<Token>,
) -> Result<usize, Unreadable> {
    // What parts documents in a sequence (RFC 7464) counts as a space.
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | 0x1e);
    let before = std::mem::take(open);
    let mut at = 0;
    loop {
        while text.get(at).is_some_and(is_space) {
            at += 1;
        }
        let Some(byte) = text.get(at) else { return Ok(text.len()) };
        let start = at;
        let known = before.seen > start && before.start == start;
        let kind = match byte {
            b'{' | b'}' | b'[' | b']' | b',' | b':' => {
                at += 1;
                Kind::Mark(*byte)
            }
            b'"' => {
                let mut escaped = known && before.escaped;
                at = if known { before.seen } else { at + 1 };
                loop {
                    let rest = text.get(at..).unwrap_or_default();
                    let Some(found) = memchr::memchr2(b'"', b'\\', rest) else {
                        // An escape may reach beyond what is here.
                        *open = Open { start, seen: at.max(text.len()), escaped };
                        return if last { Err(WRONG) } else { Ok(start) };
                    };
                    at += found + 1;
                    if rest[found] == b'"' {
                        break;
                    }
                    escaped = true;
                    at += 1;
                }
                Kind::String(escaped)
            }
            b'-' | b'0'..=b'9' | b'a'..=b'z' => {
                let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-.".contains(byte);
                at = if known { before.seen } else { at };
                at += text[at..].iter().take_while(|byte| is_part(byte)).count();
                if at == text.len() && !last {
                    *open = Open { start, seen: at, escaped: false };
                    return Ok(start);
                }
                Kind::Other
            }
            _ => return Err(WRONG),
        };
        tokens.push(Token { start, end: at, kind });
    }
}
