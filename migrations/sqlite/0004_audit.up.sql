-- The audit log. `body` is the exact text that `leaf` covers; the other columns are copies to search by. Never changed.
create table audit (
    idx integer not null primary key,
    body text not null,
    leaf blob not null check (length(leaf) = 32),
    id blob not null unique check (length(id) = 16),
    tenant blob not null check (length(tenant) = 16),
    at integer not null,
    actor text not null,
    action text not null,
    outcome text not null,
    correlation blob not null check (length(correlation) = 16),
    commit_sequence integer not null
) strict;

-- An index ends in the row id, which is idx, so each of these also gives the order.
create index audit_by_tenant on audit (tenant);
create index audit_by_time on audit (tenant, at);
create index audit_by_correlation on audit (correlation, tenant);
create index audit_by_actor on audit (actor, tenant);
create index audit_by_action on audit (action, tenant);

create trigger audit_refuses_update before update on audit
begin
    select raise(abort, 'table audit is append-only: UPDATE is refused');
end;

create trigger audit_refuses_delete before delete on audit
begin
    select raise(abort, 'table audit is append-only: DELETE is refused');
end;
