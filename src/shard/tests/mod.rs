//! Scripts for whole shards: what clients send and what they must be told, without a socket or a driver.

mod alike;
mod connect;
mod deliver;
mod durability;
mod ending;
mod kit;
mod limits;
mod pile_up;
mod publish;
mod queues;
mod retained;
mod shards;
mod share;
mod subscribe;
mod sys;
