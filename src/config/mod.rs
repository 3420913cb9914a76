//! Every setting and every limit, parsed once.
