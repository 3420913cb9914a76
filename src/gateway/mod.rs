//! Bridge and cluster.
