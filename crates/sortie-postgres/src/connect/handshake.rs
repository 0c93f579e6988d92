//! The talk between dialling and the first `ReadyForQuery`.

use std::io;

use bytes::{Buf, Bytes, BytesMut};
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{SCRAM_SHA_256, SCRAM_SHA_256_PLUS};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::binding;
use super::error::ConnectCause;
use super::login::Login;
use super::scram::{Channel, Scram};
use super::stream::Stream;
use crate::conninfo::{Binding, ConnInfo, Credential};
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
    let bound = talk.authenticate(login, credential.answer(), info.tls.binding).await?;
    if info.tls.binding == Binding::Require && !bound {
        return Err(ConnectCause::NoBinding);
    }
    talk.greeting().await
}

impl Talk<'_> {
    /// Answers what the server asks for, and says whether the login was bound to the channel.
    async fn authenticate(
        &mut self,
        login: &Login,
        credential: &Credential,
        binding: Binding,
    ) -> Result<bool, ConnectCause> {
        let mut bound = false;
        for _ in 0..FRAMES_MAX {
            let mut body = self.expect(b'R').await?;
            let asked = number(&mut body)?;
            // A password must not be shown before it is known that the login can be bound.
            if binding == Binding::Require && !bound && matches!(asked, 3 | 5) {
                return Err(ConnectCause::NoBinding);
            }
            match asked {
                0 => return Ok(bound),
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
                10 => bound = self.scram(&body.rest(), credential, binding).await?,
                other => return Err(ConnectCause::Method(method(other))),
            }
        }
        Err(StreamError::Unexpected(b'R').into())
    }

    async fn scram(
        &mut self,
        offered: &[u8],
        credential: &Credential,
        binding: Binding,
    ) -> Result<bool, ConnectCause> {
        let channel = self.channel(offered, binding)?;
        let bound = matches!(channel, Channel::Bound(_));
        let mechanism = channel.mechanism();
        let (mut scram, message) = Scram::begin(credential, channel)?;
        let length = u32::try_from(message.len()).expect("a short message");
        let mut first = BytesMut::from(mechanism.as_bytes());
        first.extend_from_slice(&[0]);
        first.extend_from_slice(&length.to_be_bytes());
        first.extend_from_slice(&message);
        self.frame(Frontend::Password(first.freeze())).await?;

        let message = scram.prove(&self.sasl(11).await?)?;
        self.frame(Frontend::Password(message.into())).await?;

        scram.check(&self.sasl(12).await?)?;
        Ok(bound)
    }

    /// How a SCRAM login is to be bound, by what the server offers and the description wants.
    fn channel(&self, offered: &[u8], binding: Binding) -> Result<Channel, ConnectCause> {
        let offers =
            |name: &str| offered.split(|byte| *byte == 0).any(|offer| offer == name.as_bytes());
        let end_point = match binding {
            Binding::Disable => None,
            Binding::Prefer | Binding::Require => {
                self.stream.certificate().and_then(binding::end_point)
            }
        };
        match end_point {
            Some(data) if offers(SCRAM_SHA_256_PLUS) => Ok(Channel::Bound(data)),
            _ if binding == Binding::Require => Err(ConnectCause::NoBinding),
            _ if !offers(SCRAM_SHA_256) => {
                let offered = String::from_utf8_lossy(offered).replace('\0', " ");
                Err(ConnectCause::Method(offered.trim().to_owned()))
            }
            Some(_) => Ok(Channel::NotOffered),
            None => Ok(Channel::Unsupported),
        }
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
            if self.stream.read_buf(self.input).await.map_err(ended)? == 0 {
                return Err(ConnectCause::Closed(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }

    async fn frame(&mut self, frame: Frontend) -> Result<(), ConnectCause> {
        let mut bytes = BytesMut::new();
        frame.encode(&mut bytes);
        self.say(&bytes).await
    }

    async fn say(&mut self, bytes: &[u8]) -> Result<(), ConnectCause> {
        let mut said = self.stream.write_all(bytes).await;
        if said.is_ok() {
            said = self.stream.flush().await;
        }
        let Err(error) = said else { return Ok(()) };
        // A server that hung up may have said why before.
        match self.next().await {
            Err(cause @ (ConnectCause::Server(_) | ConnectCause::Tls(_))) => Err(cause),
            _ => Err(ended(error)),
        }
    }
}

/// In TLS 1.3 the server looks at our certificate after we think that all is agreed on.
fn ended(error: io::Error) -> ConnectCause {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    if tls.is_some() { ConnectCause::Tls(error) } else { ConnectCause::Closed(error) }
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
