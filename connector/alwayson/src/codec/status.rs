//! Status codes of responses.

/// A status: any code of 0x40 and more. Codes without a name are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Status(u8);

macro_rules! statuses {
    ($($constant:ident = $code:literal $http:literal,)*) => {
        impl Status {
            $(#[doc = stringify!($constant)] pub const $constant: Self = Self($code);)*

            /// All statuses with a name.
            pub const ALL: &'static [Self] = &[$(Self($code)),*];

            /// The platform's name for it.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self.0 {
                    $($code => stringify!($constant),)*
                    _ => "UNKNOWN_STATUS",
                }
            }

            /// The number that REST would use; 700 and more have no meaning in HTTP. 0 if unknown.
            #[must_use]
            pub fn http(self) -> u16 {
                match self.0 {
                    $($code => $http,)*
                    _ => 0,
                }
            }
        }
    };
}

statuses! {
    SUCCESS = 0x40 200,
    CREATED = 0x41 201,
    ACCEPTED = 0x42 202,
    NO_CONTENT = 0x44 204,
    PARTIAL_CONTENT = 0x46 206,
    MULTIPLE_CHOICES = 0x60 300,
    MOVED_PERMANENTLY = 0x61 301,
    FOUND = 0x62 302,
    SEE_OTHER = 0x63 303,
    NOT_MODIFIED = 0x64 304,
    USE_PROXY = 0x65 305,
    TEMPORARY_REDIRECT = 0x67 307,
    BAD_REQUEST = 0x80 400,
    UNAUTHORIZED = 0x81 401,
    PAYMENT_REQUIRED = 0x82 402,
    FORBIDDEN = 0x83 403,
    NOT_FOUND = 0x84 404,
    METHOD_NOT_ALLOWED = 0x85 405,
    NOT_ACCEPTABLE = 0x86 406,
    REQUEST_TIMEOUT = 0x88 408,
    CONFLICT = 0x89 409,
    PRECONDITION_FAILED = 0x8c 412,
    ENTITY_TOO_LARGE = 0x8d 413,
    UNSUPPORTED_CONTENT_FORMAT = 0x8f 415,
    I_AM_A_TEAPOT = 0x92 418,
    I_AM_BUZZED = 0x94 420,
    INTERNAL_ERROR = 0xa0 500,
    INVALID_SESSION = 0xa1 501,
    BAD_GATEWAY = 0xa2 502,
    SERVICE_UNAVAILABLE = 0xa3 503,
    GATEWAY_TIMEOUT = 0xa4 504,
    NOT_IMPLEMENTED = 0xa5 505,
    COMM_ERROR = 0xe0 700,
    SERVER_REFUSED = 0xe1 701,
    SERVER_UNAVAILABLE = 0xe2 702,
    COMM_TIMEOUT = 0xe3 703,
    INVALID_PROTOCOL_VERSION = 0xe4 704,
}

impl Status {
    /// The lowest code of a status; lower ones are methods.
    pub(super) const FIRST: u8 = 0x40;

    /// A status by its code; `None` below 0x40, where the methods are.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        (code >= Self::FIRST).then_some(Self(code))
    }

    /// Its code on the wire.
    #[must_use]
    pub fn code(self) -> u8 {
        self.0
    }

    /// A failure.
    #[must_use]
    pub fn is_error(self) -> bool {
        self.0 >= 0x80
    }
}
