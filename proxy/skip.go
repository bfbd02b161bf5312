package proxy

import (
	"whsentry/proxy/reason"
	"whsentry/proxy/socket"
)

// skipBody reads the body of a request that is refused already, within the limits of one that is not, and keeps none of
// it: only behind it does the next request begin.
func (ex *exchange) skipBody() (f *reason.Failure) {
	ex.skipping, ex.skipFrom = true, ex.at
	if ex.head.Chunked {
		f = ex.takeChunked()
	} else {
		f = ex.skipLength(ex.head.ContentLength)
	}
	ex.client.SettleInput()
	return f
}

func (ex *exchange) skipLength(length int64) *reason.Failure {
	c := ex.client
	for {
		n := min(length-ex.requestBytes, int64(c.In.Len()))
		c.In.Skip(int(n))
		ex.requestBytes += n
		if ex.requestBytes == length {
			return nil
		}
		c.In.Clear()
		c.LimitFrom(ex.bodyPause(), ex.run.cfg.ClientTimeout)
		err := c.Fill()
		ex.at = socket.Now()
		if err != nil {
			return reason.Of(err)
		}
	}
}

// bodyPause is since when the client has sent nothing of a body. Of one that is not known all of it has one clientTimeout.
func (ex *exchange) bodyPause() socket.Tick {
	if ex.skipping && ex.sender == nil {
		return ex.skipFrom
	}
	return ex.at
}
