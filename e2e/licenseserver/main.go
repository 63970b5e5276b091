// Command licenseserver serves one folder over HTTPS, for the tests in e2e: it
// is the web server of the quickstart's LICENSE_URL.
package main

import (
	"flag"
	"log"
	"net/http"
	"time"
)

func main() {
	dir := flag.String("dir", "/www", "folder to serve")
	listen := flag.String("listen", ":443", "address")
	cert := flag.String("cert", "/tls/cert.pem", "certificate, PEM")
	key := flag.String("key", "/tls/key.pem", "its key, PEM")
	flag.Parse()
	files := http.FileServer(http.Dir(*dir))
	server := &http.Server{Addr: *listen, ReadHeaderTimeout: 5 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		log.Println(r.Method, r.URL.Path)
		files.ServeHTTP(w, r)
	})}
	log.Println("serving", *dir, "on", *listen)
	log.Fatal(server.ListenAndServeTLS(*cert, *key))
}
