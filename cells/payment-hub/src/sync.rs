//! `POST /payments/{id}/sync`: asks the processor about whatever it has not answered yet, and ends a hold whose time is
//! over.

use aibos_cell::{Problem, Reply, Request};

use crate::create::{self, Age};
use crate::payment::Status;
use crate::{capture, give_back, processor, store};

/// 200 with the payment; one that waits for nothing is answered as it is.
pub(crate) fn sync(request: &Request) -> Result<Reply, Problem> {
    let (mut payment, _) = store::touch(request)?;
    if payment.status() == Status::Processing {
        if let Some(plan) = payment.capture_waiting.clone() {
            capture::sync(&mut payment, plan)?;
        } else {
            let answer = processor::ask_charge(&payment)?;
            create::settle(&mut payment, answer, Age::Waiting)?;
        }
    }
    give_back::sync(&mut payment)?;
    Reply::json(200, &payment)
}
