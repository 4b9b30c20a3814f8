//! Somebody changes the database behind the kernel's back, without triggers. Each change can be undone, so one database
//! serves for all.

use std::fmt::Write;

use aibos::state::{Scan, Space};
use aibos::storage::Storage;
use serde_json::Value;
use suite::actor::Actor;
use suite::kernel::TestKernel;

use super::{assert_holds, merchant, mixed, verified};

/// A kernel with books that hold, and without triggers.
pub(super) struct Intruder {
    pub(super) test: TestKernel,
    pub(super) tenant: String,
}

impl Intruder {
    pub(super) async fn begin(test: TestKernel) -> Self {
        Box::pin(Self::prepare(test)).await
    }

    async fn prepare(test: TestKernel) -> Self {
        let acme: Actor = merchant(&test).await;
        Box::pin(mixed(&test, &acme)).await;
        for table in ["event", "audit", "audit_tile", "audit_checkpoint"] {
            let sql = match test.kernel.storage {
                Storage::Sqlite(_) => {
                    format!("drop trigger {table}_refuses_update; drop trigger {table}_refuses_delete")
                }
                Storage::Postgres(_) => format!("alter table {table} disable trigger {table}_append_only"),
            };
            test.database.execute(&sql).await.expect("a superuser drops triggers");
        }
        assert_holds(&verified(&test).await);
        Self { test, tenant: acme.tenant_id }
    }

    /// The keys and values under a prefix in the order in which they were committed, the record of that very key before all:
    /// the ids of one millisecond have no order of their own.
    pub(super) async fn list(&self, space: &str, prefix: &str) -> Vec<(String, Vec<u8>)> {
        let space = Space { tenant: self.tenant.parse().expect("an id"), name: space.into() };
        let scan = Scan { space, prefix: prefix.to_owned(), after: None, limit: 1000 };
        let mut entries = self.test.kernel.storage.scan(&scan).await.expect("the database answers");
        entries.sort_by_key(|entry| (entry.key != prefix, entry.versioned.version));
        entries.into_iter().map(|entry| (entry.key, entry.versioned.value.to_vec())).collect()
    }

    /// The first record under a prefix whose text has these words, with ` & ` between them.
    pub(super) async fn find(&self, space: &str, prefix: &str, words: &str) -> (String, String) {
        let all = self.list(space, prefix).await.into_iter();
        let mut all = all.map(|(key, value)| (key, String::from_utf8(value).expect("text")));
        all.find(|(_, value)| words.split(" & ").all(|word| value.contains(word)))
            .unwrap_or_else(|| panic!("no {prefix} of {space} has {words}"))
    }

    /// Changes something, expects the violation to have all these words, changes it back.
    pub(super) async fn changes(&self, change: &str, back: &str, words: &[&str]) {
        self.run(change).await;
        let report = verified(&self.test).await;
        self.run(back).await;
        let found = report.violation.as_ref().map_or_else(|| "nothing was found".to_owned(), ToString::to_string);
        assert!(words.iter().all(|words| found.contains(words)), "{change}\n  expected {words:?}, found: {found}");
        assert!(!report.ok);
    }

    async fn run(&self, sql: &str) {
        self.test.database.execute(sql).await.unwrap_or_else(|cause| panic!("{sql}: {cause}"));
    }

    /// A record says something else.
    pub(super) async fn says(&self, space: &str, key: &str, from: &str, to: &str, words: &[&str]) {
        let (_, before) = self.find(space, key, from).await;
        let set = |text: &str| {
            let value = self.bytes(text.as_bytes());
            format!("update state set value = {value} where {}", self.at(space, key))
        };
        self.changes(&set(&before.replacen(from, to, 1)), &set(&before), words).await;
    }

    /// A number in a record is another.
    pub(super) async fn counts(&self, space: &str, key: &str, words: &[&str]) {
        let (_, before) = self.find(space, key, "").await;
        let more = before.parse::<i64>().expect("a number") + 1;
        self.says(space, key, &before, &more.to_string(), words).await;
    }

    /// A field of a record is another; the rest stays.
    pub(super) async fn field(&self, space: &str, key: &str, field: &str, to: Value, words: &[&str]) {
        let (_, before) = self.find(space, key, "").await;
        let mut record: Value = serde_json::from_str(&before).expect("JSON");
        *record.pointer_mut(field).unwrap_or_else(|| panic!("{field} is not in {before}")) = to;
        self.says(space, key, &before, &record.to_string(), words).await;
    }

    /// A record is gone.
    pub(super) async fn removes(&self, space: &str, key: &str, words: &[&str]) {
        let tenant = self.id();
        let gone = format!("update state set space = 'gone' where {}", self.at(space, key));
        let back = format!("update state set space = '{space}' where tenant = {tenant} and space = 'gone'");
        self.changes(&gone, &back, words).await;
    }

    /// The body of the stored reply of a key.
    pub(super) async fn reply(&self, key: &str) -> String {
        let mut after = (uuid::Uuid::nil(), String::new(), String::new(), String::new());
        loop {
            let place = (after.0, &*after.1, &*after.2, &*after.3);
            let page = self.test.kernel.storage.raw_replies(place, 1).await.expect("the database answers");
            let reply = page.into_iter().next().unwrap_or_else(|| panic!("no reply of {key}"));
            if reply.3 == key {
                return String::from_utf8(reply.5).expect("text");
            }
            after = (reply.0, reply.1, reply.2, reply.3);
        }
    }

    pub(super) fn at(&self, space: &str, key: &str) -> String {
        format!("tenant = {} and space = '{space}' and key = '{key}'", self.id())
    }

    /// The tenant as SQL.
    pub(super) fn id(&self) -> String {
        match self.test.kernel.storage {
            Storage::Sqlite(_) => format!("x'{}'", self.tenant.replace('-', "")),
            Storage::Postgres(_) => format!("'{}'::uuid", self.tenant),
        }
    }

    pub(super) fn bytes(&self, bytes: &[u8]) -> String {
        let hex = bytes.iter().fold(String::new(), |mut hex, byte| {
            write!(hex, "{byte:02x}").expect("a string takes everything");
            hex
        });
        match self.test.kernel.storage {
            Storage::Sqlite(_) => format!("x'{hex}'"),
            Storage::Postgres(_) => format!("'\\x{hex}'::bytea"),
        }
    }
}
