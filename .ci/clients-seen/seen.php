<?php
// What PHP's curl and Guzzle see; see seen.py.
require 'GuzzleHttp/autoload.php';

const BODY = '{"event": "paid"}';

function answer($status, $get, $body)
{
    if ($get('X-WhSentry-ReasonCode')) {
        return "$status {$get('X-WhSentry-ReasonCode')} {$get('X-WhSentry-Delivered')} {$get('X-WhSentry-Retry')}";
    }
    $length = $get('Content-Length') ?: strlen($body);
    return $body === false || strlen($body) == $length ? "$status" : "$status, " . strlen($body) . " bytes of $length";
}

function withCurl($proxy, $url, $headers)
{
    $fields = [];
    $curl = curl_init($url);
    curl_setopt_array($curl, [
        CURLOPT_PROXY => $proxy, CURLOPT_NOPROXY => '', CURLOPT_POSTFIELDS => BODY, CURLOPT_RETURNTRANSFER => true,
        CURLOPT_HTTPHEADER => $headers,
        CURLOPT_HEADERFUNCTION => function ($_, $line) use (&$fields) {
            [$name, $value] = explode(':', $line, 2) + [1 => ''];
            $fields[strtolower($name)] = trim($value);
            return strlen($line);
        },
    ]);
    $body = curl_exec($curl);
    $status = curl_getinfo($curl, CURLINFO_RESPONSE_CODE) ?: curl_getinfo($curl, CURLINFO_HTTP_CONNECTCODE);
    $seen = answer($status, fn ($name) => $fields[strtolower($name)] ?? '', $body);
    return $body === false ? curl_errno($curl) . ' ' . curl_error($curl) . " [$seen]" : $seen;
}

function withGuzzle($proxy, $url, $headers)
{
    $client = new GuzzleHttp\Client(['proxy' => $proxy, 'http_errors' => false, 'curl' => [CURLOPT_NOPROXY => '']]);
    $fields = [];
    foreach ($headers as $line) {
        [$name, $fields[$name]] = explode(': ', $line);
    }
    $response = $client->post($url, ['body' => BODY, 'headers' => $fields]);
    return answer($response->getStatusCode(), fn ($name) => $response->getHeaderLine($name), (string) $response->getBody());
}

$clients = [
    "PHP's curl" => [curl_version()['version'], 'withCurl'],
    'Guzzle' => [GuzzleHttp\ClientInterface::MAJOR_VERSION . '', 'withGuzzle'],
];
foreach ($clients as $client => [$version, $send]) {
    foreach (file($argv[1], FILE_IGNORE_NEW_LINES) as $line) {
        [$way, $case, $proxy, $url] = explode("\t", $line);
        if ($way == 'CONNECT, http' || $case == 'certificate') {
            continue;
        }
        try {
            $seen = $send($proxy, str_replace('CLIENT', preg_replace('/\W+/', '-', $client), $url), $way == 'X-WhSentry-TLS' ? ['X-WhSentry-TLS: true'] : []);
        } catch (Exception $e) {
            $seen = (new ReflectionClass($e))->getShortName() . ': ' . $e->getMessage();
        }
        echo implode("\t", [$client, $version, $way, $case, preg_replace('/\s+/', ' ', $seen)]), "\n";
    }
}
