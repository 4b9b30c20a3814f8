-- The Merkle tree over the audit log, in full tiles: 256 hashes of 32 bytes and the root over them. Level 0 holds leaf
-- hashes, each further level the roots of the tiles below. What is not in a full tile is read from `audit`.
create table audit_tile (
    level bigint not null,
    position bigint not null,
    root bytea not null check (length(root) = 32),
    hashes bytea not null check (length(hashes) = 8192),
    primary key (level, position)
);

-- Hashes do not compress.
alter table audit_tile alter column hashes set storage external;

-- Signed states of the log: a note of its size and root. Never changed.
create table audit_checkpoint (
    size bigint not null primary key,
    note bytea not null
);

create trigger audit_tile_append_only before update or delete or truncate on audit_tile
    for each statement execute function refuse_change();
alter table audit_tile enable always trigger audit_tile_append_only;

create trigger audit_checkpoint_append_only before update or delete or truncate on audit_checkpoint
    for each statement execute function refuse_change();
alter table audit_checkpoint enable always trigger audit_checkpoint_append_only;
