-- The last numbers given. One row, taken first by every commit: that is what makes commits serial.
create table head (
    id integer not null primary key check (id = 1),
    sequence integer not null,
    audit_index integer not null
) strict;

insert into head (id, sequence, audit_index) values (1, 0, -1);

-- The last batch of each kernel process: tells whether a commit happened whose answer was lost.
create table node (
    id blob not null primary key check (length(id) = 16),
    batch blob not null check (length(batch) = 16)
) strict, without rowid;

-- The last event sequence of each tenant.
create table tenant_sequence (
    tenant blob not null primary key check (length(tenant) = 16),
    sequence integer not null
) strict, without rowid;
