//! Who a client is and what it may do.
//!
//! Pure. Owns the decision whether a CONNECT is admitted; today that is whether its listener admits anonymous clients.
//! Credentials are not checked yet: a client that gives some on a listener that admits anyone is admitted, and on one
//! that doesn't it is refused, since there is nothing to check them against.

use crate::mqtt::ReasonCode;

/// Whether a client is admitted.
///
/// # Errors
/// The ReasonCode to refuse it with.
pub fn authenticate(
    admits_anonymous: bool,
    user_name: Option<&str>,
    password: Option<&[u8]>,
) -> Result<(), ReasonCode> {
    if admits_anonymous {
        return Ok(());
    }
    let gave_credentials = user_name.is_some() || password.is_some();
    Err(if gave_credentials { ReasonCode::BadUserNameOrPassword } else { ReasonCode::NotAuthorized })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_anonymous_client_needs_a_listener_that_admits_it() {
        assert_eq!(authenticate(true, None, None), Ok(()));
        assert_eq!(authenticate(true, Some("u"), Some(b"p")), Ok(()));
        assert_eq!(authenticate(false, None, None), Err(ReasonCode::NotAuthorized));
        assert_eq!(authenticate(false, Some("u"), Some(b"p")), Err(ReasonCode::BadUserNameOrPassword));
    }
}
