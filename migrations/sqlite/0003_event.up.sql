-- Each tenant's events, numbered without gaps in commit order. Never changed.
create table event (
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
