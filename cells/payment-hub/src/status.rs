//! Where a payment stands, and the edges along which it may move.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Where a payment stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// The processor was asked and nobody knows its answer yet. A timeout is not a failure.
    Processing,
    /// Authorised: all of it is held, nothing is taken.
    RequiresCapture,
    /// A part is taken, the rest is held.
    PartiallyCapturedAndCapturable,
    /// A part is taken, the rest was released.
    PartiallyCaptured,
    /// All of it is taken and posted.
    Succeeded,
    /// Given up before anything was taken.
    Canceled,
    /// Nobody took anything in time.
    Expired,
    /// Declined.
    Failed,
    /// The processor answered with another amount or currency: a person has to look.
    Conflicted,
}

use Status::{
    Canceled, Conflicted, Expired, Failed, PartiallyCaptured, PartiallyCapturedAndCapturable, Processing,
    RequiresCapture, Succeeded,
};

impl Status {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Processing,
        RequiresCapture,
        PartiallyCapturedAndCapturable,
        PartiallyCaptured,
        Succeeded,
        Canceled,
        Expired,
        Failed,
        Conflicted,
    ];

    /// Where a payment may go from here. A status without a next one is final; refunds do not change it.
    #[must_use]
    pub fn next(self) -> &'static [Self] {
        match self {
            // An answer to a capture may arrive when a part was taken before, or after the hold's time.
            Processing => &[
                RequiresCapture,
                PartiallyCapturedAndCapturable,
                PartiallyCaptured,
                Succeeded,
                Expired,
                Failed,
                Conflicted,
            ],
            RequiresCapture => &[
                Processing,
                PartiallyCapturedAndCapturable,
                PartiallyCaptured,
                Succeeded,
                Canceled,
                Expired,
                Conflicted,
            ],
            PartiallyCapturedAndCapturable => {
                &[Processing, PartiallyCapturedAndCapturable, PartiallyCaptured, Succeeded, Conflicted]
            }
            PartiallyCaptured | Succeeded | Canceled | Expired | Failed | Conflicted => &[],
        }
    }

    /// Is money held that can be captured or released?
    #[must_use]
    pub fn is_capturable(self) -> bool {
        matches!(self, RequiresCapture | PartiallyCapturedAndCapturable)
    }

    /// Is money taken that can be given back?
    #[must_use]
    pub fn is_refundable(self) -> bool {
        matches!(self, PartiallyCapturedAndCapturable | PartiallyCaptured | Succeeded)
    }

    /// The name, as JSON has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Processing => "processing",
            RequiresCapture => "requires_capture",
            PartiallyCapturedAndCapturable => "partially_captured_and_capturable",
            PartiallyCaptured => "partially_captured",
            Succeeded => "succeeded",
            Canceled => "canceled",
            Expired => "expired",
            Failed => "failed",
            Conflicted => "conflicted",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_json() {
        for status in Status::ALL {
            assert_eq!(serde_json::to_value(status).expect("JSON"), status.name());
        }
    }

    #[test]
    fn final_is_what_holds_nothing_and_waits_for_nothing() {
        for status in Status::ALL {
            let waits = status == Processing || status.is_capturable();
            assert_eq!(status.next().is_empty(), !waits, "{status}");
        }
    }
}
