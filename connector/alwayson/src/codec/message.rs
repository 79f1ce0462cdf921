//! Messages: a header of 15 bytes and a body.

use super::{
    bind::{Bind, Claims},
    error::{DecodeError, EncodeError, Fault},
    request::{Method, Request, Response},
    status::Status,
    wire::Reader,
};

/// The only version there is.
const VERSION: u8 = 1;
const BIND: u8 = 0x0a;
const UNBIND: u8 = 0x0b;
const AUTH: u8 = 0x14;
const CLEAR_AUTH: u8 = 0x15;
const KEEP_ALIVE: u8 = 0x1f;

/// The ids of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Header {
    /// Chosen by the requester, per direction; the response repeats it.
    pub request_id: u32,
    /// Tells the platform which endpoint a socket belongs to; −1 when it has none.
    pub endpoint_id: i32,
    /// The login under which a request is carried out; −1 when there is none.
    pub session_id: i32,
}

impl Header {
    /// A request without endpoint and session.
    #[must_use]
    pub fn new(request_id: u32) -> Self {
        Self {
            request_id,
            endpoint_id: -1,
            session_id: -1,
        }
    }
}

/// A whole message.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// Its ids.
    pub header: Header,
    /// What it says.
    pub body: Body,
}

/// What a message says.
#[derive(Debug, Clone, PartialEq)]
pub enum Body {
    /// A request to an entity.
    Request(Request),
    /// The answer to whatever has the same request id.
    Response(Response),
    /// A login.
    Auth(Claims),
    /// The end of the session in the header.
    ClearAuth(Claims),
    /// Requests for these names are to come here.
    Bind(Bind),
    /// They are no longer to.
    Unbind(Bind),
    /// Known from lists of codes only; its body is not public.
    KeepAlive,
}

impl From<Request> for Body {
    fn from(request: Request) -> Self {
        Self::Request(request)
    }
}

impl From<Response> for Body {
    fn from(response: Response) -> Self {
        Self::Response(response)
    }
}

impl Body {
    fn code(&self) -> u8 {
        match self {
            Self::Request(request) => request.method.code(),
            Self::Response(response) => response.status.code(),
            Self::Auth(_) => AUTH,
            Self::ClearAuth(_) => CLEAR_AUTH,
            Self::Bind(_) => BIND,
            Self::Unbind(_) => UNBIND,
            Self::KeepAlive => KEEP_ALIVE,
        }
    }

    /// What it is, for logs and errors.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Request(_) => "request",
            Self::Response(_) => "response",
            Self::Auth(_) => "AUTH",
            Self::ClearAuth(_) => "CLEARAUTH",
            Self::Bind(_) => "BIND",
            Self::Unbind(_) => "UNBIND",
            Self::KeepAlive => "KEEP_ALIVE",
        }
    }
}

/// Header of a message, or of a part of one, as read.
pub(super) struct RawHeader {
    pub(super) code: u8,
    pub(super) header: Header,
    pub(super) part: bool,
}

impl RawHeader {
    pub(super) const LEN: usize = 15;

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let version = reader.u8("the version")?;
        if version != VERSION {
            return Err(DecodeError {
                offset: 0,
                fault: Fault::Version(version),
            });
        }
        let code = reader.u8("the method or status")?;
        let header = Header {
            request_id: reader.u32("the request id")?,
            endpoint_id: reader.i32("the endpoint id")?,
            session_id: reader.i32("the session id")?,
        };
        // SDKs take any other flags for "part of a message" too.
        let part = reader.u8("the flags")? != 0;
        Ok(Self { code, header, part })
    }

    pub(super) fn put(&self, out: &mut Vec<u8>) {
        let Header {
            request_id,
            endpoint_id,
            session_id,
        } = self.header;
        out.push(VERSION);
        out.push(self.code);
        out.extend(request_id.to_be_bytes());
        out.extend(endpoint_id.to_be_bytes());
        out.extend(session_id.to_be_bytes());
        out.push(u8::from(self.part));
    }

    /// Reads the body that belongs to this header. Bytes behind it are ignored: some SDKs write them.
    pub(super) fn body(&self, reader: &mut Reader<'_>) -> Result<Body, DecodeError> {
        if let Some(status) = Status::from_code(self.code) {
            return Response::read_body(status, reader).map(Body::Response);
        }
        if let Some(method) = Method::from_code(self.code) {
            return Request::read_body(method, reader).map(Body::Request);
        }
        match self.code {
            AUTH => Claims::read(reader).map(Body::Auth),
            CLEAR_AUTH => Claims::read(reader).map(Body::ClearAuth),
            BIND => Bind::read(reader).map(Body::Bind),
            UNBIND => Bind::read(reader).map(Body::Unbind),
            KEEP_ALIVE => Ok(Body::KeepAlive),
            code => Err(DecodeError {
                offset: 1,
                fault: Fault::Method(code),
            }),
        }
    }

    /// Whether parts after the first repeat the entity's type and name.
    pub(super) fn repeats_address(&self) -> bool {
        Method::from_code(self.code).is_some()
    }
}

impl Message {
    /// Decodes a message that came in one piece.
    ///
    /// # Errors
    /// [`DecodeError`] tells where the bytes are no message, and why. A part of a message is an error
    /// here; see [`super::Assembler`].
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let raw = RawHeader::read(&mut reader)?;
        if raw.part {
            return reader.fail(Fault::Multipart("a part of a message stands alone"));
        }
        let body = raw.body(&mut reader)?;
        Ok(Self {
            header: raw.header,
            body,
        })
    }

    /// Its bytes, in one piece.
    ///
    /// # Errors
    /// [`EncodeError`] if a list is longer than the wire can tell.
    pub fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        let mut out = Vec::with_capacity(128);
        RawHeader {
            code: self.body.code(),
            header: self.header,
            part: false,
        }
        .put(&mut out);
        match &self.body {
            Body::Request(request) => request.put(&mut out)?,
            Body::Response(response) => response.put(&mut out)?,
            Body::Auth(claims) | Body::ClearAuth(claims) => claims.put(&mut out)?,
            Body::Bind(bind) | Body::Unbind(bind) => bind.put(&mut out)?,
            Body::KeepAlive => {}
        }
        Ok(out)
    }

    pub(super) fn raw(&self, part: bool) -> RawHeader {
        RawHeader {
            code: self.body.code(),
            header: self.header,
            part,
        }
    }
}
