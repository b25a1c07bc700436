"""What makes an `EventStore` of an engine; adapters see it through `eventport.adapter`."""
