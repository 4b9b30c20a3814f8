drop table tenant_sequence;
drop table node;
drop table head;
