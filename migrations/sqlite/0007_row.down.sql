create table state_tree (
    tenant blob not null check (length(tenant) = 16),
    space text not null,
    key text not null,
    version integer not null,
    value blob not null,
    primary key (tenant, space, key)
) strict, without rowid;

insert into state_tree (tenant, space, key, version, value)
select tenant, space, key, version, value from state;

drop table state;
alter table state_tree rename to state;

create table idempotency_tree (
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

insert into idempotency_tree
    (tenant, principal, route, idempotency_key, fingerprint, status, headers, body, created_at, expires_at)
select tenant, principal, route, idempotency_key, fingerprint, status, headers, body, created_at, expires_at
from idempotency;

drop table idempotency;
alter table idempotency_tree rename to idempotency;
create index idempotency_by_expiry on idempotency (expires_at);

create table event_tree (
    tenant blob not null check (length(tenant) = 16),
    sequence integer not null,
    id text not null,
    source text not null,
    kind text not null,
    subject text,
    time integer not null,
    data text not null,
    actor text not null,
    correlation blob not null check (length(correlation) = 16),
    traceparent text,
    commit_sequence integer not null,
    primary key (tenant, sequence),
    unique (tenant, source, id)
) strict, without rowid;

insert into event_tree
    (tenant, sequence, id, source, kind, subject, time, data, actor, correlation, traceparent, commit_sequence)
select tenant, sequence, id, source, kind, subject, time, data, actor, correlation, traceparent, commit_sequence
from event;

-- Its triggers go with it.
drop table event;
alter table event_tree rename to event;
create index event_by_kind on event (tenant, kind, sequence);
create index event_by_subject on event (tenant, subject, sequence);

create trigger event_refuses_update before update on event
begin
    select raise(abort, 'table event is append-only: UPDATE is refused');
end;

create trigger event_refuses_delete before delete on event
begin
    select raise(abort, 'table event is append-only: DELETE is refused');
end;
