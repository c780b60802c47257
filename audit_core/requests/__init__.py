"""What one request leaves. An adapter answers what its framework knows; what that means is decided here, once."""
