-- Keys and values; version is the commit sequence that wrote the value. Rows are small and always found by the whole key
-- or a range of it, so the key is the table. The version stands before the value: it is read alone far more often, and a
-- long value continues on other pages.
create table state (
    tenant blob not null check (length(tenant) = 16),
    space text not null,
    key text not null,
    version integer not null,
    value blob not null,
    primary key (tenant, space, key)
) strict, without rowid;

-- Replies kept for idempotency keys.
create table idempotency (
    tenant blob not null check (length(tenant) = 16),
    principal text not null,
    route text not null,
    idempotency_key text not null,
    fingerprint blob not null check (length(fingerprint) = 32),
    status integer not null,
    headers text not null,
    body blob not null,
    created_at integer not null,
    expires_at integer not null,
    primary key (tenant, principal, route, idempotency_key)
) strict, without rowid;

create index idempotency_by_expiry on idempotency (expires_at);
