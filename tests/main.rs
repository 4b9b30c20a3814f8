//! The one test binary. `tests/run` prepares everything that it needs.

/// Generates `sqlite::NAME` and `postgres::NAME` for each async function that takes a running kernel.
macro_rules! on_both_kernels {
    ($($name:ident),+ $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(suite::kernel::TestKernel::start(suite::database::Backend::Sqlite).await).await;
            })+
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(suite::kernel::TestKernel::start(suite::database::Backend::Postgres).await).await;
            })+
        }
    };
}

mod access;
mod audit;
mod fault;
mod journey;
mod limits;
mod model;
mod parsers;
mod route;
mod sandbox;
mod storage;
mod tidy;
mod verify;
