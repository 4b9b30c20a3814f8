-- The Merkle tree over the audit log, in full tiles: 256 hashes of 32 bytes and the root over them. Level 0 holds leaf
-- hashes, each further level the roots of the tiles below. What is not in a full tile is read from `audit`.
create table audit_tile (
    level integer not null,
    position integer not null,
    root blob not null check (length(root) = 32),
    hashes blob not null check (length(hashes) = 8192),
    primary key (level, position)
) strict;

-- Signed states of the log: a note of its size and root. Never changed.
create table audit_checkpoint (
    size integer not null primary key,
    note blob not null
) strict;

create trigger audit_tile_refuses_update before update on audit_tile
begin
    select raise(abort, 'table audit_tile is append-only: UPDATE is refused');
end;

create trigger audit_tile_refuses_delete before delete on audit_tile
begin
    select raise(abort, 'table audit_tile is append-only: DELETE is refused');
end;

create trigger audit_checkpoint_refuses_update before update on audit_checkpoint
begin
    select raise(abort, 'table audit_checkpoint is append-only: UPDATE is refused');
end;

create trigger audit_checkpoint_refuses_delete before delete on audit_checkpoint
begin
    select raise(abort, 'table audit_checkpoint is append-only: DELETE is refused');
end;
