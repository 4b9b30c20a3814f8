//! Payments and ledger against a reference model: random operations through HTTP, on both databases, and after each of
//! them the same answer, the same payment, the same balances and the same events as in the model.
//!
//! A run is decided by its seed, which a failure prints. `AIBOS_TEST_SEED` and `AIBOS_TEST_STEPS` choose another one.

mod books;
mod draw;
mod payments;
mod run;

use suite::kernel::TestKernel;

use draw::Random;
use run::Run;

/// Operations of a run when nobody says.
const STEPS: u64 = 120;
/// The seed when nobody says.
const SEED: u64 = 20_261_121;

async fn payments_and_books_do_as_the_model_does(test: TestKernel) {
    let (seed, steps) = (setting("AIBOS_TEST_SEED", SEED), setting("AIBOS_TEST_STEPS", STEPS));
    let _told = Told { seed, steps };
    let mut run = Run::begin(test, Random::new(seed)).await;
    for step in 0..steps {
        run.step(step).await;
        if step % 40 == 39 {
            run.check_books().await;
        }
    }
    run.check_books().await;
    run.check_events().await;
    println!("{}", run.summary());
}

/// Prints how to repeat a run that failed.
struct Told {
    seed: u64,
    steps: u64,
}

impl Drop for Told {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("to repeat it: AIBOS_TEST_SEED={} AIBOS_TEST_STEPS={} tests/run model", self.seed, self.steps);
        }
    }
}

fn setting(name: &str, default: u64) -> u64 {
    #[expect(clippy::disallowed_methods, reason = "a setting of the tests, not of the kernel")]
    let text = std::env::var(name);
    text.map_or(default, |text| text.parse().expect(name))
}

on_both_kernels!(payments_and_books_do_as_the_model_does);
