-- Keys and values; version is the commit sequence that wrote the value. Room is left in each page so that a changed value
-- stays there and no index moves. Collation "C" sorts by bytes, as the kernel and SQLite do.
create table state (
    tenant uuid not null,
    space text collate "C" not null,
    key text collate "C" not null,
    version bigint not null,
    value bytea not null,
    primary key (tenant, space, key)
) with (fillfactor = 85);

-- Replies kept for idempotency keys.
create table idempotency (
    tenant uuid not null,
    principal text collate "C" not null,
    route text collate "C" not null,
    idempotency_key text collate "C" not null,
    fingerprint bytea not null check (length(fingerprint) = 32),
    status integer not null,
    headers text not null,
    body bytea not null,
    created_at bigint not null,
    expires_at bigint not null,
    primary key (tenant, principal, route, idempotency_key)
);

create index idempotency_by_expiry on idempotency (expires_at);
