//! How an oracle says that the broker is wrong: by a panic that carries the oracle's name.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind, panic_any},
    sync::Once,
};

/// What an oracle found.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The oracle.
    pub oracle: String,
    /// What it saw.
    pub detail: String,
}

/// Ends the run: `oracle` does not hold.
pub fn fail(oracle: &str, detail: impl Into<String>) -> ! {
    panic_any(Failure { oracle: oracle.into(), detail: detail.into() })
}

/// Runs `run` to its end, or to its failure. A panic of the code under test is a failure as well.
pub fn catch<R>(run: impl FnOnce() -> R) -> Result<R, Failure> {
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let is_simulated = std::thread::current().name() == Some(THREAD);
            if !is_simulated {
                usual(info);
            }
            LAST_PLACE.with(|place| *place.borrow_mut() = info.location().map(ToString::to_string).unwrap_or_default());
        }));
    });
    catch_unwind(AssertUnwindSafe(run)).map_err(read)
}

/// Threads of this name do not print their panics: they report them.
pub const THREAD: &str = "simulation";

thread_local! {
    static LAST_PLACE: std::cell::RefCell<String> = const { std::cell::RefCell::new(String::new()) };
}

fn read(payload: Box<dyn Any + Send>) -> Failure {
    let payload = match payload.downcast::<Failure>() {
        Ok(failure) => return *failure,
        Err(payload) => payload,
    };
    let text = payload.downcast_ref::<String>().map(String::as_str).or(payload.downcast_ref::<&str>().copied());
    let place = LAST_PLACE.with(|place| place.borrow().clone());
    Failure { oracle: "no panic".into(), detail: format!("{} at {place}", text.unwrap_or("?")) }
}
