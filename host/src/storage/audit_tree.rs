//! What the Merkle tree over the audit log reads and writes. Everything here is insert-only and outside of commits: a tile
//! and a checkpoint follow from entries that are committed, so two kernels that write the same one write the same thing.

use sqlx::QueryBuilder;

use super::work::Work;
use super::{Storage, StorageError, in_time, measured};
use crate::id::TenantId;
use crate::limit;

const END: &str = "select audit_index, (select max(size) from audit_checkpoint) from head";
const LAST: &str = "select max(idx) from audit";
const LEAVES: &str = "select idx, leaf from audit where idx >= $1 and idx < $2 order by idx";
const TEXTS_SQLITE: &str =
    "select idx, leaf, body from audit where tenant = $1 and idx >= $2 and idx < $3 order by idx limit $4";
// In these words, for the reason that is given where the audit log is searched.
const TEXTS_POSTGRES: &str =
    "select idx, leaf, body from audit where (tenant, idx) >= ($1, $2) and idx >= $2 and idx < $3
    and tenant >= $1 and tenant <= $1 order by tenant, idx limit $4";
const TILE: &str = "select root, hashes from audit_tile where level = $1 and position = $2";
const ROOTS: &str =
    "select position, root from audit_tile where level = $1 and position >= $2 and position < $3 order by position";
const LAST_TILE: &str = "select max(position) from audit_tile where level = $1";
const CHECKPOINTS: &str =
    "select size, note from audit_checkpoint where size > $1 and size <= $2 order by size limit $3";
const PUT_TILES: &str = "insert into audit_tile (level, position, root, hashes) ";
const PUT_CHECKPOINT: &str = "insert into audit_checkpoint (size, note) values ($1, $2) on conflict (size) do nothing";

/// As bytes, because what was tampered with need not be text or a UUID any more.
const RAW_SQLITE: &str =
    "select idx, cast(body as blob), leaf, id, tenant, at, cast(actor as blob), cast(action as blob),
    cast(outcome as blob), correlation, commit_sequence from audit where idx >= $1 and idx < $2 order by idx";
const RAW_POSTGRES: &str = "select idx, convert_to(body, 'UTF8'), leaf, uuid_send(id), uuid_send(tenant), at,
    convert_to(actor, 'UTF8'), convert_to(action, 'UTF8'), convert_to(outcome, 'UTF8'), uuid_send(correlation),
    commit_sequence from audit where idx >= $1 and idx < $2 order by idx";

/// A row of the audit log, unjudged: index, text, leaf hash, id, tenant, time in milliseconds, id of the actor, action,
/// outcome, correlation id, commit.
pub type RawEntry = (i64, Vec<u8>, Vec<u8>, Vec<u8>, Vec<u8>, i64, Vec<u8>, Vec<u8>, Vec<u8>, Vec<u8>, i64);

/// A full tile as it is stored.
#[derive(Clone, Debug)]
pub struct TileRow {
    /// Its level.
    pub level: i64,
    /// Its position.
    pub position: i64,
    /// The root over its hashes.
    pub root: Vec<u8>,
    /// Its hashes, one after the other.
    pub hashes: Vec<u8>,
}

macro_rules! read {
    ($self:ident, $name:literal, $query:expr, $fetch:ident) => {
        in_time(limit::ANSWER_TIMEOUT, async {
            Ok(on_backend!($self, backend => measured($name, $query.$fetch(&backend.readers)).await?))
        })
        .await
    };
}

macro_rules! write {
    ($self:ident, $name:literal, $query:expr) => {
        in_time(limit::COMMIT_TIMEOUT, async {
            on_backend!($self, backend => {
                let run = Work::alone(&backend.writer, async |connection| $query.execute(connection).await.map(drop));
                measured($name, run).await?;
            });
            Ok(())
        })
        .await
    };
}

impl Storage {
    /// The number of entries, and the size of the newest checkpoint, in one snapshot.
    pub async fn audit_end(&self) -> Result<(i64, Option<i64>), StorageError> {
        let (last, size): (i64, Option<i64>) = read!(self, "audit_end", sqlx::query_as(END), fetch_one)?;
        Ok((last + 1, size))
    }

    /// The largest index of a row.
    pub async fn last_audit_row(&self) -> Result<Option<i64>, StorageError> {
        read!(self, "audit_last", sqlx::query_scalar(LAST), fetch_one)
    }

    /// Indices and leaf hashes of entries, in order.
    pub async fn audit_leaves(&self, from: i64, to: i64) -> Result<Vec<(i64, Vec<u8>)>, StorageError> {
        read!(self, "audit_leaves", sqlx::query_as(LEAVES).bind(from).bind(to), fetch_all)
    }

    /// Indices, leaf hashes and texts of a tenant's entries, in order.
    pub async fn audit_texts(
        &self,
        tenant: TenantId,
        (from, to): (i64, i64),
        limit: u32,
    ) -> Result<Vec<(i64, Vec<u8>, String)>, StorageError> {
        let limit = i64::from(limit);
        let sql = match self {
            Self::Sqlite(_) => TEXTS_SQLITE,
            Self::Postgres(_) => TEXTS_POSTGRES,
        };
        read!(self, "audit_texts", sqlx::query_as(sql).bind(tenant.0).bind(from).bind(to).bind(limit), fetch_all)
    }

    /// Whole rows, in order, unjudged.
    pub async fn audit_rows(&self, from: i64, to: i64) -> Result<Vec<RawEntry>, StorageError> {
        let sql = match self {
            Self::Sqlite(_) => RAW_SQLITE,
            Self::Postgres(_) => RAW_POSTGRES,
        };
        read!(self, "audit_rows", sqlx::query_as(sql).bind(from).bind(to), fetch_all)
    }

    /// A full tile.
    pub async fn audit_tile(&self, level: i64, position: i64) -> Result<Option<TileRow>, StorageError> {
        let row: Option<(Vec<u8>, Vec<u8>)> =
            read!(self, "audit_tile", sqlx::query_as(TILE).bind(level).bind(position), fetch_optional)?;
        Ok(row.map(|(root, hashes)| TileRow { level, position, root, hashes }))
    }

    /// Positions and roots of full tiles of a level, in order.
    pub async fn audit_tile_roots(&self, level: i64, from: i64, to: i64) -> Result<Vec<(i64, Vec<u8>)>, StorageError> {
        read!(self, "audit_roots", sqlx::query_as(ROOTS).bind(level).bind(from).bind(to), fetch_all)
    }

    /// The last full tile of a level.
    pub async fn last_audit_tile(&self, level: i64) -> Result<Option<i64>, StorageError> {
        read!(self, "audit_last_tile", sqlx::query_scalar(LAST_TILE).bind(level), fetch_one)
    }

    /// Checkpoints as (size, note) with a size above `after` and at most `to`, in order.
    pub async fn audit_checkpoints(
        &self,
        after: i64,
        to: i64,
        limit: u32,
    ) -> Result<Vec<(i64, Vec<u8>)>, StorageError> {
        let limit = i64::from(limit);
        read!(self, "audit_checkpoints", sqlx::query_as(CHECKPOINTS).bind(after).bind(to).bind(limit), fetch_all)
    }

    /// Writes tiles, all or none; those that are there already stay as they are.
    pub async fn put_audit_tiles(&self, tiles: &[TileRow]) -> Result<(), StorageError> {
        macro_rules! insert {
            () => {{
                let mut insert = QueryBuilder::new(PUT_TILES);
                insert.push_values(tiles, |mut row, tile| {
                    row.push_bind(tile.level).push_bind(tile.position).push_bind(&*tile.root).push_bind(&*tile.hashes);
                });
                insert.push(" on conflict (level, position) do nothing");
                insert
            }};
        }
        if !tiles.is_empty() {
            write!(self, "audit_put_tiles", insert!().build().persistent(false))?;
        }
        Ok(())
    }

    /// Writes a checkpoint; one of the same size stays as it is.
    pub async fn put_audit_checkpoint(&self, size: i64, note: &str) -> Result<(), StorageError> {
        write!(self, "audit_put_checkpoint", sqlx::query(PUT_CHECKPOINT).bind(size).bind(note.as_bytes()))
    }
}
