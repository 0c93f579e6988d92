//! The talk between dialling and the first `ReadyForQuery`.

use bytes::{Buf, Bytes, BytesMut};
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::error::ConnectCause;
use super::login::Login;
use super::stream::Stream;
use crate::conninfo::{ConnInfo, Credential};
use crate::cursor::Cursor;
use crate::frontend::Frontend;
use crate::scan::StreamError;
use crate::server_error::ServerError;
use crate::startup::SECRET_MAX;
use crate::walk::HEADER_LEN;

/// The longest frame before the first `ReadyForQuery`, in bytes.
const FRAME_MAX: usize = 64 * 1024;

/// More frames than any server sends before the first `ReadyForQuery`.
const FRAMES_MAX: usize = 1000;

/// What a server says of itself and of the session.
#[derive(Debug, Default)]
pub(crate) struct Greeting {
    pub(crate) parameters: Vec<(Bytes, Bytes)>,
    pub(crate) process: i32,
    /// Empty where the server gives no key.
    pub(crate) secret: Bytes,
}

/// The talk under way.
struct Talk<'a> {
    stream: &'a mut Stream,
    input: &'a mut BytesMut,
}

/// Logs in, and reads up to the first `ReadyForQuery`.
pub(super) async fn shake(
    stream: &mut Stream,
    input: &mut BytesMut,
    info: &ConnInfo,
    login: &Login,
) -> Result<Greeting, ConnectCause> {
    let mut talk = Talk { stream, input };
    let mut packet = BytesMut::new();
    login.packet(&mut packet);
    talk.say(&packet).await?;
    let credential = login.credential.as_ref().unwrap_or(&info.credential);
    talk.authenticate(login, credential).await?;
    talk.greeting().await
}

impl Talk<'_> {
    async fn authenticate(
        &mut self,
        login: &Login,
        credential: &Credential,
    ) -> Result<(), ConnectCause> {
        for _ in 0..FRAMES_MAX {
            let mut body = self.expect(b'R').await?;
            match number(&mut body)? {
                0 => return Ok(()),
                3 => {
                    let password = password(credential, "a password")?;
                    if !self.stream.is_encrypted() {
                        return Err(ConnectCause::ClearText);
                    }
                    self.password(password).await?;
                }
                5 => {
                    let salt = body.bytes(4).map_err(|_short| StreamError::Layout(b'R'))?;
                    let salt = [salt[0], salt[1], salt[2], salt[3]];
                    let password = password(credential, "a password, hashed by md5")?;
                    let user = login.user.as_bytes();
                    self.password(&md5_hash(user, password.as_bytes(), salt)).await?;
                }
                10 => self.scram(&body.rest(), credential).await?,
                other => return Err(ConnectCause::Method(method(other))),
            }
        }
        Err(StreamError::Unexpected(b'R').into())
    }

    async fn scram(&mut self, offered: &[u8], credential: &Credential) -> Result<(), ConnectCause> {
        if !offered.split(|byte| *byte == 0).any(|name| name == SCRAM_SHA_256.as_bytes()) {
            let offered = String::from_utf8_lossy(offered).replace('\0', " ");
            return Err(ConnectCause::Method(offered.trim().to_owned()));
        }
        let password = password(credential, "a password by SCRAM-SHA-256")?;
        let mut scram = ScramSha256::new(password.as_bytes(), ChannelBinding::unsupported());
        let mut first = BytesMut::from(SCRAM_SHA_256.as_bytes());
        let message = scram.message();
        let length = u32::try_from(message.len()).expect("a short message");
        first.extend_from_slice(&[0]);
        first.extend_from_slice(&length.to_be_bytes());
        first.extend_from_slice(message);
        self.frame(Frontend::Password(first.freeze())).await?;

        let server = self.sasl(11).await?;
        scram.update(&server).map_err(|error| ConnectCause::Login(error.to_string()))?;
        let message = Bytes::copy_from_slice(scram.message());
        self.frame(Frontend::Password(message)).await?;

        let server = self.sasl(12).await?;
        scram.finish(&server).map_err(|error| ConnectCause::Login(error.to_string()))
    }

    /// The next step of a SASL login.
    async fn sasl(&mut self, step: i32) -> Result<Bytes, ConnectCause> {
        let mut body = self.expect(b'R').await?;
        if number(&mut body)? != step {
            return Err(StreamError::Unexpected(b'R').into());
        }
        Ok(body.rest())
    }

    async fn password(&mut self, password: &str) -> Result<(), ConnectCause> {
        let mut body = BytesMut::from(password.as_bytes());
        body.extend_from_slice(&[0]);
        self.frame(Frontend::Password(body.freeze())).await
    }

    async fn greeting(&mut self) -> Result<Greeting, ConnectCause> {
        let mut greeting = Greeting::default();
        for _ in 0..FRAMES_MAX {
            let (tag, mut body) = self.next().await?;
            match tag {
                b'S' => {
                    let layout = |_error| StreamError::Layout(b'S');
                    let name = body.text().map_err(layout)?;
                    greeting.parameters.push((name, body.text().map_err(layout)?));
                }
                b'K' => {
                    greeting.process = number(&mut body)?;
                    greeting.secret = body.rest();
                    if greeting.secret.len() > SECRET_MAX {
                        return Err(StreamError::Layout(b'K').into());
                    }
                }
                b'Z' => return ready(&body.rest()).map(|()| greeting),
                // What a server has to remark at its start concerns its log.
                b'N' | b'v' => {}
                other => return Err(StreamError::Unexpected(other).into()),
            }
        }
        Err(StreamError::Unexpected(b'S').into())
    }

    /// The body of the next frame, which must be of this type.
    async fn expect(&mut self, wanted: u8) -> Result<Cursor, ConnectCause> {
        for _ in 0..FRAMES_MAX {
            match self.next().await? {
                (tag, body) if tag == wanted => return Ok(body),
                (b'N' | b'v', _) => {}
                (other, _) => return Err(StreamError::Unexpected(other).into()),
            }
        }
        Err(StreamError::Unexpected(b'N').into())
    }

    /// The next frame; an `ErrorResponse` ends the talk.
    async fn next(&mut self) -> Result<(u8, Cursor), ConnectCause> {
        loop {
            if let Some(frame) = take(self.input)? {
                let tag = frame[0];
                if tag == b'E' {
                    return Err(ConnectCause::Server(ServerError::new(frame)?));
                }
                return Ok((tag, Cursor::new(frame.slice(HEADER_LEN..))));
            }
            if self.stream.read_buf(self.input).await.map_err(ConnectCause::Closed)? == 0 {
                let end = std::io::ErrorKind::UnexpectedEof.into();
                return Err(ConnectCause::Closed(end));
            }
        }
    }

    async fn frame(&mut self, frame: Frontend) -> Result<(), ConnectCause> {
        let mut bytes = BytesMut::new();
        frame.encode(&mut bytes);
        self.say(&bytes).await
    }

    async fn say(&mut self, bytes: &[u8]) -> Result<(), ConnectCause> {
        self.stream.write_all(bytes).await.map_err(ConnectCause::Closed)?;
        self.stream.flush().await.map_err(ConnectCause::Closed)
    }
}

/// Takes a whole frame, header included, off the front of `input`.
fn take(input: &mut BytesMut) -> Result<Option<Bytes>, StreamError> {
    let Some(mut header) = input.get(..HEADER_LEN) else { return Ok(None) };
    let tag = header.get_u8();
    let length = header.get_i32();
    let whole = usize::try_from(length).ok().filter(|length| (4..=FRAME_MAX).contains(length));
    let whole = whole.ok_or(StreamError::FrameLength { tag, length })? + 1;
    if input.len() < whole {
        return Ok(None);
    }
    Ok(Some(input.split_to(whole).freeze()))
}

fn number(body: &mut Cursor) -> Result<i32, StreamError> {
    body.i32().map_err(|_short| StreamError::Layout(b'R'))
}

fn ready(body: &[u8]) -> Result<(), ConnectCause> {
    match body {
        b"I" => Ok(()),
        _ => Err(StreamError::Layout(b'Z').into()),
    }
}

fn password<'a>(credential: &'a Credential, wanted: &'static str) -> Result<&'a str, ConnectCause> {
    match credential {
        Credential::Password(password) => Ok(password),
        other => Err(ConnectCause::Credential { wanted, given: other.kind() }),
    }
}

/// The name of a login that is not spoken.
fn method(number: i32) -> String {
    match number {
        2 => "Kerberos".to_owned(),
        7 | 8 => "GSSAPI".to_owned(),
        9 => "SSPI".to_owned(),
        other => format!("method {other}"),
    }
}
